"""Initial weights, for training and for trying a network that has not learned anything yet.

Convolutions and the fully connected layer: He-normal with fan-in (He et al. 2015, "Delving deep
into rectifiers"), biases 0; batch norm: weight 1, bias 0, mean 0, variance 1; PReLU slopes 0.25.
Parameters that no node reads are 0.
"""

from __future__ import annotations

import math

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node


def initial_weights(graph: Graph, *, seed: int) -> dict[str, Array]:
    """Return float32 weights for every parameter of ``graph``, the same for the same seed."""
    random = np.random.default_rng(seed)
    roles = {
        name: (node, position) for node in graph.nodes for position, name in enumerate(node.inputs)
    }
    weights: dict[str, Array] = {}
    for value in graph.parameters:
        shape = tuple(size or 0 for size in value.type.shape)
        node, position = roles.get(value.name, (None, 0))
        constant = _CONSTANTS.get(node.operator, ()) if node else ()
        if node and node.operator in _WEIGHTED and position == 1:
            deviation = math.sqrt(2 / _addends(node, shape))
            array = random.standard_normal(shape, np.float32) * np.float32(deviation)
        else:
            value_at = constant[position] if constant else 0
            array = np.full(shape, value_at, np.float32)
        weights[value.name] = array
    return weights


_WEIGHTED = ("convolution", "fused_convolution", "transposed_convolution", "linear")
# What each input of an operator begins as; 0 where nothing is said.
_CONSTANTS = {
    "batch_norm": (0, 1, 0, 0, 1),  # x, weight, bias, mean, variance
    "batch_norm_training": (0, 1, 0, 0, 1),
    "prelu": (0, 0.25),  # x, slope
}


def _addends(node: Node, shape: tuple[int, ...]) -> float:
    """Return how many products each output of ``node`` sums up, its fan-in."""
    if node.operator != "transposed_convolution":
        return math.prod(shape[1:])  # [OC, KH, KW, IC/G] or [OC, IC]
    # [IC, KH, KW, OC/G]: one of stride×stride pixels meets each pixel of the kernel.
    stride, groups = node.options["stride"], node.options["groups"]
    assert isinstance(stride, tuple)
    assert isinstance(groups, int)
    return math.prod(shape[:3]) / (groups * math.prod(stride))
