"""Folding batch norm into the convolution before it.

Before::

    c = convolution(x, weight)
    y = batch_norm(c, gamma, beta, mean, variance)

After, with ``scale = gamma / sqrt(variance + epsilon)``::

    y = convolution(x, weight * scale, (bias - mean) * scale + beta)

At inference the statistics are constants, so batch norm is a linear map per channel and the
convolution can absorb it. A pair stays as it is when something else reads ``c``: another node, an
output, or a value the caller keeps; and when what should be a parameter is computed by a node, or
updated by one: then it is no constant. The new parameters are called ``{c}.folded.weight`` and
``{c}.folded.bias``, so that a weight shared by several convolutions stays intact for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import cast

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node, TensorType, Value
from lushan.graph.weights import Factors, New, derived, origin_of, shape_of


def fold_batch_norm(
    graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
) -> tuple[Graph, Mapping[str, Array]]:
    """Return the graph and weights with every foldable batch norm folded.

    The folded parameters are in the type of the old weight, and are computed when they are asked
    for. ``weights`` itself is not changed. A node that ``keep`` names survives under its name.
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
    types = {value.name: value.type for value in graph.parameters}
    nodes: list[Node] = []
    new: dict[str, New] = {}
    for node in graph.nodes:
        if node.name in folded:
            before = folded[node.name]
            names = (f"{before.name}.folded.weight", f"{before.name}.folded.bias")
            shape = shape_of(weights, before.inputs[1])
            new[names[0]] = New(shape, partial(_folded_weight, node, before, weights))
            new[names[1]] = New(shape[:1], partial(_folded_bias, node, before, weights))
            dtype = types[before.inputs[1]].dtype
            types.update({name: TensorType(new[name].shape, dtype) for name in names})
            inputs = (before.inputs[0], *names)
            nodes.append(Node("convolution", inputs, node.outputs, before.attributes))
        elif node.name not in absorbed:
            nodes.append(node)
    everything = derived(weights, new, origin=origin_of(weights))
    return _with_parameters(graph, nodes, types, everything, protected)


# Numbers beyond float32 become infinite, as they would when the two ran one after the other.


def _scale(batch_norm: Node, weights: Mapping[str, Array]) -> Array:
    """Return gamma / sqrt(variance + epsilon), float64 [OC]."""
    gamma, variance = (weights[batch_norm.inputs[place]].astype(np.float64) for place in (1, 4))
    with np.errstate(over="ignore", invalid="ignore"):
        scale: Array = gamma / np.sqrt(variance + cast("float", batch_norm.options["epsilon"]))
    return scale


def _folded_weight(batch_norm: Node, convolution: Node, weights: Mapping[str, Array]) -> Factors:
    """Return the folded weight [OC, KH, KW, IC], in the memory order of the old one."""
    weight = weights[convolution.inputs[1]]
    with np.errstate(over="ignore", invalid="ignore"):
        return Factors(weight, _scale(batch_norm, weights).astype(weight.dtype))


def _folded_bias(batch_norm: Node, convolution: Node, weights: Mapping[str, Array]) -> Factors:
    """Return the folded bias [OC]."""
    beta, mean = (weights[batch_norm.inputs[place]].astype(np.float64) for place in (2, 3))
    bias = weights[convolution.inputs[2]] if len(convolution.inputs) == 3 else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        folded = (bias - mean) * _scale(batch_norm, weights) + beta
        return Factors(folded.astype(weights[batch_norm.inputs[2]].dtype), None)


def _with_parameters(
    graph: Graph,
    nodes: list[Node],
    types: Mapping[str, TensorType],
    weights: Mapping[str, Array],
    protected: set[str],
) -> tuple[Graph, Mapping[str, Array]]:
    """Return the graph of ``nodes`` with the parameters they read, in order of first use."""
    used = [name for node in nodes for name in (*node.inputs, *node.updates)]
    names = [name for name in dict.fromkeys((*used, *protected)) if name in weights]
    parameters = tuple(Value(name, types[name]) for name in names)
    rewritten = Graph(graph.inputs, parameters, tuple(nodes), graph.outputs)
    return rewritten, derived(weights, {}, iter(names), origin=origin_of(weights))
