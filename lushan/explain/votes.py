"""Which features voted: a class score as the sum of what each feature gives it (chapter 11).

    score = Σ_k weight_k · feature_k + bias

The features are not the classes: ResNet-50 has 2048 of them, each the mean of one feature map, and
every class weighs all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.explain.inspection import FloatArray, Inspection


@dataclass(frozen=True)
class Contributions:
    """The score of a class, term by term: ``features`` [K] times ``weights`` [K], and ``bias``.

    ``score`` is the engine's own.
    """

    class_index: int
    features: FloatArray
    weights: FloatArray
    bias: float
    score: float

    @property
    def terms(self) -> npt.NDArray[np.float64]:
        """What each feature gives to the score, float64 [K]."""
        return self.weights.astype(np.float64) * self.features

    def strongest(self, count: int = 10) -> list[tuple[int, float]]:
        """Return the ``count`` features that move the score most, either way, with their terms."""
        terms = self.terms
        order = np.argsort(-np.abs(terms), kind="stable")[: max(0, count)]
        return [(int(feature), float(terms[feature])) for feature in order]


def contributions(inspection: Inspection, class_index: int) -> Contributions:
    """Return the terms of the score of one class; raises UsageError if there is no such class.

    Also where the network does not end in a fully connected layer.
    """
    inspection.check_class(class_index)
    features, weight, bias = classifier_of(inspection)
    weights = inspection.model.weights
    return Contributions(
        class_index=class_index,
        features=inspection.value(features),
        weights=np.array(weights[weight][class_index]),
        bias=float(weights[bias][class_index]) if bias else 0.0,
        score=float(inspection.scores[class_index]),
    )


def classifier_of(inspection: Inspection) -> tuple[str, str, str | None]:
    """Return the names of the features, of their weight and bias; raises UsageError without."""
    last = inspection.graph.node(inspection.output)
    if last.operator != "linear":
        raise UsageError(
            "the scores come from {operator}, not from a fully connected layer: they are no sum "
            "of features",
            operator=last.operator,
        )
    features, weight, *bias = last.inputs
    return features, weight, bias[0] if bias else None
