"""Where in the picture a class was seen: class activation maps, plain and by gradients.

CAM (Zhou et al. 2016, "Learning deep features for discriminative localization") is exact for a
network that ends in global average pooling and one fully connected layer: the score is a sum over
places, and the map has the term of each place.

    score = Σ_k w_k · mean_hw(f_khw) + b        map_hw = Σ_k w_k · f_khw / (H · W)

Grad-CAM (Selvaraju et al. 2017) takes the mean gradient of the score at any layer for w_k. That
is an approximation everywhere but at the last maps, where it is CAM, rectified.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.explain.inspection import Inspection
from lushan.explain.projections import send_back
from lushan.explain.votes import classifier_of

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassMap:
    """What each place of the maps of ``node`` gives to the score of a class, float64 [H, W].

    Of CAM the sum of ``values`` is the score less the bias; of Grad-CAM no number is below 0, and
    only their proportions mean something.
    """

    node: str
    class_index: int
    values: DoubleArray


def cam(inspection: Inspection, class_index: int) -> ClassMap:
    """Return the class activation map of the network's last maps.

    Raises UsageError for no such class, and for a network that does not end in global average
    pooling and a fully connected layer.
    """
    inspection.check_class(class_index)
    features, weight, _ = classifier_of(inspection)
    pooling = inspection.graph.node(features)
    if pooling.operator != "global_average_pooling":
        raise UsageError(
            "CAM needs global average pooling before the last layer; this network has "
            "{operator}: use Grad-CAM",
            operator=pooling.operator,
        )
    node = pooling.inputs[0]
    maps = inspection.value(node)
    row = inspection.model.weights[weight][class_index].astype(np.float64)
    values = maps @ row / (maps.shape[0] * maps.shape[1])
    return ClassMap(node, class_index, values)


def gradcam(inspection: Inspection, class_index: int, node: str | None = None) -> ClassMap:
    """Return the Grad-CAM of ``node``, by default the last maps: relu(Σ_k mean gradient_k · f_k).

    Raises UsageError for no such class or node, and for a node without maps.
    """
    inspection.check_class(class_index)
    node = inspection.last_maps if node is None else node
    inspection.check_map(node)
    signal = np.zeros((1, len(inspection.scores)), np.float32)
    signal[0, class_index] = 1
    gradient = send_back(inspection, inspection.output, node, signal, "gradient")[0]
    weights = gradient.mean(axis=(0, 1), dtype=np.float64)
    return ClassMap(node, class_index, np.maximum(inspection.value(node) @ weights, 0))
