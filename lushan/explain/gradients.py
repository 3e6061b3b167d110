"""How much of the gradient reaches each layer: what training would have to learn from (chapter 13).

The loss is the cross-entropy of one class. Its gradient at the scores is probabilities less the
class's 1; from there back-propagation carries it down to the picture. Where a deep network without
shortcuts, or with saturated activations, lets it shrink from layer to layer, the first layers
hardly learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lushan.explain.inspection import Inspection
from lushan.explain.projections import carry_back, passes_through
from lushan.models.resnet_graph import INPUT
from lushan.reference.softmax import softmax

_LEG = 3  # of the layers asked for, on one part of the way


def gradient_norms(
    inspection: Inspection, class_index: int, nodes: Sequence[str]
) -> dict[str, float]:
    """Return the Euclidean norm of the loss's gradient at each of ``nodes``, and at the input.

    The loss is the cross-entropy of this picture with the class ``class_index``. Norms are over all
    pixels and channels of the value. Raises UsageError for no such class or node.
    """
    inspection.check_class(class_index)
    for node in nodes:
        inspection.check_node(node)
    signal = softmax(inspection.scores)[None].astype(np.float32)
    signal[0, class_index] -= 1
    order = [name for name in inspection.nodes if name in nodes]
    norms: dict[str, float] = {}
    source = inspection.output
    for target, along in _legs(inspection, order):
        found = carry_back(inspection, source, target, signal, "gradient", along=along)
        norms |= {
            name: float(np.linalg.norm(value.astype(np.float64))) for name, value in found.items()
        }
        source, signal = target, found[target]
    return norms


def _legs(inspection: Inspection, order: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the way from the scores to the input in legs: where each ends, what is on it.

    So that only a part of the weights is in memory at a time.
    """
    along: list[str] = []
    later = inspection.output
    for name in reversed(order):
        if len(along) >= _LEG and passes_through(inspection, name, later):
            yield name, along
            later, along = name, []
        else:
            along.append(name)
    yield INPUT, along
