"""Folding batch norm into the convolution before it.

Before::

    c = convolution(x, weight)
    y = batch_norm(c, gamma, beta, mean, variance)

After, with ``scale = gamma / sqrt(variance + epsilon)``::

    y = convolution(x, weight * scale, (bias - mean) * scale + beta)

At inference the statistics are constants, so batch norm is a linear map per channel and the
convolution can absorb it. A pair stays as it is when something else reads ``c``: another node, an
output, or a value the caller keeps; and when what should be a parameter is computed by a node, or
updated by one: then it is no constant. The new parameters are called ``{y}.folded.weight`` and
``{y}.folded.bias``, so that a weight shared by several convolutions stays intact for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node, TensorType, Value


def fold_batch_norm(
    graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
) -> tuple[Graph, dict[str, Array]]:
    """Return the graph and weights with every foldable batch norm folded.

    The folded parameters are computed in float64 and stored in the type of the old weight.
    ``weights`` itself is not changed. A node that ``keep`` names survives under its name.
    """
    producers, consumers = graph.producers(), graph.consumers()
    protected = {*graph.outputs, *keep}
    updated = {name for node in graph.nodes for name in node.updates}
    constants = {value.name for value in graph.parameters} - updated
    folded: dict[str, Node] = {}  # batch norm → the convolution it absorbs
    for node in graph.nodes:
        before = producers.get(node.inputs[0]) if node.operator == "batch_norm" else None
        if (
            before is not None
            and before.operator == "convolution"
            and len(consumers[before.name]) == 1
            and before.name not in protected
            and constants.issuperset((*before.inputs[1:], *node.inputs[1:]))
        ):
            folded[node.name] = before
    absorbed = {before.name for before in folded.values()}
    nodes: list[Node] = []
    new_weights: dict[str, Array] = {}
    for node in graph.nodes:
        if node.name in folded:
            before = folded[node.name]
            names = (f"{node.name}.folded.weight", f"{node.name}.folded.bias")
            new_weights.update(zip(names, _fold(node, before, weights), strict=True))
            inputs = (before.inputs[0], *names)
            nodes.append(Node("convolution", inputs, node.outputs, before.attributes))
        elif node.name not in absorbed:
            nodes.append(node)
    return _with_parameters(graph, nodes, {**weights, **new_weights}, protected)


def _fold(batch_norm: Node, convolution: Node, weights: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return the folded weight [OC, KH, KW, IC] and bias [OC]."""
    weight = weights[convolution.inputs[1]]
    gamma, beta, mean, variance = (
        weights[name].astype(np.float64) for name in batch_norm.inputs[1:]
    )
    epsilon = cast("float", batch_norm.options["epsilon"])
    bias = weights[convolution.inputs[2]] if len(convolution.inputs) == 3 else 0.0
    # Numbers beyond float32 become infinite, as they would when the two ran one after the other.
    with np.errstate(over="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)  # [OC]
        return (
            (weight * scale[:, None, None, None]).astype(weight.dtype),
            ((bias - mean) * scale + beta).astype(weight.dtype),
        )


def _with_parameters(
    graph: Graph, nodes: list[Node], weights: Mapping[str, Array], protected: set[str]
) -> tuple[Graph, dict[str, Array]]:
    """Return the graph of ``nodes`` with the parameters they read, in order of first use."""
    types = {value.name: value.type for value in graph.parameters}
    used = [name for node in nodes for name in (*node.inputs, *node.updates)]
    names = [name for name in dict.fromkeys((*used, *protected)) if name in weights]
    parameters = tuple(
        Value(name, types.get(name) or TensorType(weights[name].shape)) for name in names
    )
    rewritten = Graph(graph.inputs, parameters, tuple(nodes), graph.outputs)
    return rewritten, {name: weights[name] for name in names}
