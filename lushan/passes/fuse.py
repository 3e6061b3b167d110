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

import numpy as np

from lushan.graph.executor import Array
from lushan.graph.ir import Attribute, Graph, Node, TensorType, Value

FUSABLE = ("relu", "leaky_relu", "sigmoid", "tanh")


def fuse(
    graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
) -> tuple[Graph, dict[str, Array]]:
    """Return the graph with every convolution fused with what follows it."""
    consumers = graph.consumers()
    protected = {*graph.outputs, *keep}
    taken: set[str] = set()  # nodes that are part of a chain already
    chains: dict[str, list[Node]] = {}  # last node of a chain → the chain
    for node in graph.nodes:
        if node.operator != "convolution":
            continue
        chain = [node]
        while following := _next(chain, consumers, protected, taken):
            chain.append(following)
        taken.update(member.name for member in chain)
        chains[chain[-1].name] = chain
    new_weights = dict(weights)
    parameters = list(graph.parameters)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in chains:
            fused = _fused(chains[node.name], weights)
            bias = fused.inputs[2]
            if bias not in new_weights:
                new_weights[bias] = np.zeros_like(weights[fused.inputs[1]][:, 0, 0, 0])
                parameters.append(Value(bias, TensorType(new_weights[bias].shape)))
            nodes.append(fused)
        elif node.name not in taken:
            nodes.append(node)
    return Graph(graph.inputs, tuple(parameters), tuple(nodes), graph.outputs), new_weights


def _next(
    chain: list[Node],
    consumers: Mapping[str, list[Node]],
    protected: set[str],
    taken: set[str],
) -> Node | None:
    """Return the node that the chain can take up: an add first, an activation last."""
    last = chain[-1]
    if last.name in protected or len(consumers[last.name]) != 1 or last.operator in FUSABLE:
        return None
    following = consumers[last.name][0]
    if following.name in taken:
        return None
    if following.operator == "add" and len(chain) == 1 and len(set(following.inputs)) == 2:
        return following
    return following if following.operator in FUSABLE else None


def _fused(chain: list[Node], weights: Mapping[str, Array]) -> Node:
    convolution, last = chain[0], chain[-1]
    x, weight, *biases = convolution.inputs
    inputs = [x, weight, biases[0] if biases else f"{last.name}.fused.bias"]
    activation: dict[str, Attribute] = {"activation": "none", "slope": 0.0}
    for node in chain[1:]:
        if node.operator == "add":
            inputs.append(next(name for name in node.inputs if name != convolution.name))
        else:
            slope = node.options.get("slope", 0.0)
            activation = {"activation": node.operator, "slope": slope}
    attributes = tuple(sorted({**convolution.options, **activation}.items()))
    return Node("fused_convolution", tuple(inputs), last.outputs, attributes)
