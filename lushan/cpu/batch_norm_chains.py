"""What follows batch norm in a training step is done on its second walk: the sum, the activation.

Before::

    y, mean, variance = batch_norm_training(x, …)
    s = add(y, shortcut)
    z = relu(s)

After::

    z, mean, variance = batch_norm_training(x, …, shortcut) activation='relu'

A picture then goes through memory once instead of three times, and every number is the same, bit
for bit. It is a matter of how nodes are computed, not of what: the graph keeps its operators. A
value that something else reads, or that is wanted, is never left out. The new node stands where the
last of the chain stood, so that the shortcut is there before it.
"""

from __future__ import annotations

from collections.abc import Collection

from lushan.graph.ir import Attribute, Graph, Node
from lushan.graph.liveness import sole_reader

_ACTIVATIONS = ("relu", "leaky_relu")


def join_chains(graph: Graph, wanted: Collection[str]) -> list[Node]:
    """Return the nodes of ``graph`` with every chain as one; ``wanted`` are values to be kept."""
    consumers = graph.consumers()
    kept = {*graph.outputs, *wanted}
    chains: dict[str, list[Node]] = {}  # by their last node
    inner: set[str] = set()
    for node in graph.nodes:
        if node.operator != "batch_norm_training":
            continue
        chain = [node]
        while following := _next(chain, consumers, kept, inner):
            chain.append(following)
        if len(chain) > 1:
            chains[chain[-1].name] = chain
            inner.update(member.name for member in chain)
    return [
        _joined(chains[node.name]) if node.name in chains else node
        for node in graph.nodes
        if node.name in chains or node.name not in inner
    ]


def _next(
    chain: list[Node], consumers: dict[str, list[Node]], kept: set[str], inner: set[str]
) -> Node | None:
    """Return the node that the chain can take up: an add first, an activation last."""
    last = chain[-1]
    following = sole_reader(last.name, consumers, kept)
    if following is None or following.name in inner or last.operator in _ACTIVATIONS:
        return None
    if following.operator == "add" and len(chain) == 1 and len(set(following.inputs)) == 2:
        return following
    return following if following.operator in _ACTIVATIONS else None


def _joined(chain: list[Node]) -> Node:
    first, last = chain[0], chain[-1]
    inputs = list(first.inputs)
    options: dict[str, Attribute] = dict(first.options)
    for node in chain[1:]:
        if node.operator == "add":
            inputs.append(next(name for name in node.inputs if name != first.name))
        else:
            options["activation"] = node.operator
            options["slope"] = node.options.get("slope", 0.0)
    outputs = (last.name, *first.outputs[1:])
    attributes = tuple(sorted(options.items()))
    return Node(first.operator, tuple(inputs), outputs, attributes, first.updates)
