"""Initial weights, for training and for trying a network that has not learned anything yet.

Convolutions and the fully connected layer: He-normal with fan-in (He et al. 2015, "Delving deep
into rectifiers"), biases 0; batch norm: weight 1, bias 0, mean 0, variance 1; PReLU slopes 0.25.
"""

from __future__ import annotations

import math

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Graph


def initial_weights(graph: Graph, *, seed: int) -> dict[str, Array]:
    """Return float32 weights for every parameter of ``graph``, the same for the same seed."""
    random = np.random.default_rng(seed)
    roles = {
        name: (node.operator, position)
        for node in graph.nodes
        for position, name in enumerate(node.inputs)
    }
    weights: dict[str, Array] = {}
    for value in graph.parameters:
        shape = tuple(size or 0 for size in value.type.shape)
        operator, position = roles[value.name]
        if operator in ("convolution", "linear") and position == 1:
            deviation = math.sqrt(2 / math.prod(shape[1:]))
            array = random.standard_normal(shape, np.float32) * np.float32(deviation)
        elif operator == "batch_norm":  # inputs: x, weight, bias, mean, variance
            array = np.full(shape, (0, 1, 0, 0, 1)[position], np.float32)
        else:
            array = np.full(shape, 0.25 if operator == "prelu" else 0, np.float32)
        weights[value.name] = array
    return weights
