"""How much of the gradient reaches each layer: what training would have to learn from (chapter 13).

The loss is the cross-entropy of one class. Its gradient at the scores is probabilities less the
class's 1; from there back-propagation carries it down to the picture. Where a deep network without
shortcuts, or with saturated activations, lets it shrink from layer to layer, the first layers
hardly learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lushan.explain.inspection import Inspection
from lushan.explain.projections import carry_back
from lushan.models.resnet_graph import INPUT
from lushan.reference.softmax import softmax


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
    found = carry_back(inspection, inspection.output, INPUT, signal, "gradient", along=nodes)
    return {name: float(np.linalg.norm(value.astype(np.float64))) for name, value in found.items()}
