"""How long each value of a graph is needed: interpreting and counting memory must agree on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lushan.graph.ir import Graph, Node


def last_uses(graph: Graph, kept: Collection[str] = ()) -> list[list[str]]:
    """Return, for each node in order, the values that nothing after it needs.

    Those are inputs and node outputs that it reads last, and outputs of its own that nobody reads.
    Parameters, the outputs of the graph and the values named in ``kept`` are needed to the end.
    """
    needed = {*kept, *graph.outputs, *(value.name for value in graph.parameters)}
    ends: list[list[str]] = [[] for _ in graph.nodes]
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        for name in dict.fromkeys((*node.inputs, *node.outputs)):
            if name not in needed:
                needed.add(name)
                ends[index].append(name)
    return ends


def sole_reader(
    value: str, consumers: Mapping[str, Sequence[Node]], kept: Collection[str]
) -> Node | None:
    """Return the node for which alone ``value`` is computed: it may take the computation up.

    ``consumers`` are the graph's. None where several read it, where nobody does, or where it is one
    of ``kept``.
    """
    readers = consumers[value]
    return readers[0] if len(readers) == 1 and value not in kept else None
