"""Fusing what follows a convolution into it: the residual sum, then the activation.

Before::

    c = convolution(x, weight, bias)
    s = add(c, shortcut)
    y = relu(s)

After::

    y = fused_convolution(x, weight, bias, shortcut) activation='relu'

The sum and the activation then happen in registers, before the only store. A value that something
else reads, that is an output, or that the caller keeps is never fused away. The fused node stands
where the last node of the chain stood, so that the shortcut is computed before it. A convolution
without a bias gets one of zeros, called ``{y}.fused.bias``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Attribute, Graph, Node, TensorType, Value
from lushan.graph.liveness import sole_reader
from lushan.graph.weights import Factors, New, derived, origin_of, shape_of

FUSABLE = ("relu", "leaky_relu", "sigmoid", "tanh")


def fuse(
    graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
) -> tuple[Graph, Mapping[str, Array]]:
    """Return the graph with every convolution fused with what follows it."""
    consumers = graph.consumers()
    protected = {*graph.outputs, *keep}
    taken: set[str] = set()  # nodes that are part of a chain already
    chains: dict[str, list[Node]] = {}  # last node of a chain → the chain
    convolutions = {node.name for node in graph.nodes if node.operator == "convolution"}
    types = {value.name: value.type for value in graph.parameters}
    for node in graph.nodes:
        if node.operator != "convolution" or not types.keys() >= {*node.inputs[1:]}:
            continue
        chain = [node]
        while following := _next(chain, consumers, protected, taken, convolutions):
            chain.append(following)
        taken.update(member.name for member in chain)
        chains[chain[-1].name] = chain
    new: dict[str, New] = {}
    parameters = list(graph.parameters)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in chains:
            fused = _fused(chains[node.name])
            weight, bias = fused.inputs[1:3]
            if bias == _bias_name(node):
                channels = shape_of(weights, weight)[:1]
                new[bias] = New(channels, partial(_zeros, weights, weight))
                parameters.append(Value(bias, TensorType(channels, types[weight].dtype)))
            nodes.append(fused)
        elif node.name not in taken:
            nodes.append(node)
    rewritten = Graph(graph.inputs, tuple(parameters), tuple(nodes), graph.outputs)
    return rewritten, derived(weights, new, origin=origin_of(weights))


def _bias_name(last: Node) -> str:
    return f"{last.name}.fused.bias"


def _zeros(weights: Mapping[str, Array], weight: str) -> Factors:
    """Return a bias of zeros in the type of a weight [OC, …]."""
    return Factors(np.zeros(shape_of(weights, weight)[0], weights[weight].dtype), None)


def _next(
    chain: list[Node],
    consumers: Mapping[str, list[Node]],
    protected: set[str],
    taken: set[str],
    convolutions: set[str],
) -> Node | None:
    """Return the node that the chain can take up: an add first, an activation last."""
    last = chain[-1]
    following = sole_reader(last.name, consumers, protected)
    if following is None or following.name in taken or last.operator in FUSABLE:
        return None
    if following.operator == "add" and len(chain) == 1 and len(set(following.inputs)) == 2:
        # Of two convolutions the branch takes the sum up: the projection comes before it.
        other = following.inputs[0]
        is_branch = other == last.name or other not in convolutions
        return following if is_branch or len(consumers[other]) > 1 else None
    return following if following.operator in FUSABLE else None


def _fused(chain: list[Node]) -> Node:
    convolution, last = chain[0], chain[-1]
    x, weight, *biases = convolution.inputs
    inputs = [x, weight, biases[0] if biases else _bias_name(last)]
    activation: dict[str, Attribute] = {"activation": "none", "slope": 0.0}
    for node in chain[1:]:
        if node.operator == "add":
            inputs.append(next(name for name in node.inputs if name != convolution.name))
        else:
            slope = node.options.get("slope", 0.0)
            activation = {"activation": node.operator, "slope": slope}
    attributes = tuple(sorted({**convolution.options, **activation}.items()))
    return Node("fused_convolution", tuple(inputs), last.outputs, attributes)
