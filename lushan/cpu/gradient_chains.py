"""What follows a convolution's input gradient in a training step is done before its only store.

Before::

    g = convolution_backward_input(grad_y, weight, x)
    s = add(shortcut, g)
    r = relu_backward(s, y)

After::

    r = convolution_backward_input(grad_y, weight, x, shortcut, y) residual gate

A gradient then goes through memory once instead of three times, and every number is the same, bit
for bit. Like ``batch_norm_chains`` it is a matter of how nodes are computed: the graph keeps its
operators. The new node stands where the convolution's did, before the weight is updated: only what
is known by then is taken up. A value that something else reads, or that is wanted, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

from lushan.graph.ir import Attribute, Graph, Node
from lushan.graph.liveness import sole_reader

_GATES = ("relu_backward", "leaky_relu_backward")


def join_gradients(
    graph: Graph, nodes: Sequence[Node], wanted: Collection[str], takes: Callable[[Node], bool]
) -> list[Node]:
    """Return ``nodes`` of ``graph`` with every chain as one.

    ``takes`` says which input gradients can begin one; ``wanted`` are values to be kept.
    """
    consumers = graph.consumers()
    kept = {*graph.outputs, *wanted}
    known = {value.name for value in graph.inputs}
    joined: list[Node] = []
    inner: set[str] = set()
    for node in nodes:
        if node.name in inner:
            continue
        chain = [node]
        if node.operator == "convolution_backward_input" and takes(node):
            while following := _next(chain, consumers, kept, known):
                chain.append(following)
            inner.update(member.name for member in chain)
        joined.append(_joined(chain) if len(chain) > 1 else node)
        known.update(joined[-1].outputs)
    return joined


def _next(
    chain: list[Node], consumers: dict[str, list[Node]], kept: set[str], known: set[str]
) -> Node | None:
    """Return the node that the chain can take up: an add first, a gate last."""
    last = chain[-1]
    following = sole_reader(last.name, consumers, kept)
    if following is None or last.operator in _GATES:
        return None
    others = [name for name in following.inputs if name != last.name]
    if len(others) != 1 or len(following.inputs) != 2 or others[0] not in known:
        return None
    if following.operator == "add" and len(chain) == 1:
        return following
    is_gate = following.operator in _GATES and following.inputs[0] == last.name
    return following if is_gate else None


def _joined(chain: list[Node]) -> Node:
    first, last = chain[0], chain[-1]
    inputs = list(first.inputs)
    options: dict[str, Attribute] = dict(first.options)
    for before, node in pairwise(chain):
        inputs += [name for name in node.inputs if name != before.name]
        if node.operator == "add":
            options["residual"] = True
        else:
            options["gate"] = True
            options["slope"] = node.options.get("slope", 0.0)
    return Node(first.operator, tuple(inputs), (last.name,), tuple(sorted(options.items())))
