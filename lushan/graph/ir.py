"""The intermediate representation: a network as a frozen list of operator nodes.

Every value (input, parameter or node output) has a name of its own and is written once; the only
exceptions are the parameters that a node *updates* in place, which the node names. Nodes stand in
an order that defines every value before its use. Batch, height and width are ``None`` in a shape:
they become known when a program runs, so one graph serves every picture size. What an operator
needs and what it gives is in ``operators.py``; what it computes is in ``lushan.reference``.
Left out on purpose: control flow, and any mutation of a value that is not a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lushan.errors import GraphError
from lushan.record import record

Shape: TypeAlias = tuple[int | None, ...]
Attribute: TypeAlias = int | float | str | bool | tuple[int, ...]


@record
class TensorType:
    """What is known of a tensor before the program runs: its shape and its element type."""

    shape: Shape
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@record
class Value:
    """A named tensor that comes from outside the graph: an input or a parameter."""

    name: str
    type: TensorType


@record
class Node:
    """One operator applied to named values.

    ``outputs`` are the names it defines; the first one is also the node's own name. ``updates`` are
    the parameters it writes in place (the running statistics of a batch norm in training); a node
    that does nothing else is called after the first of them.
    ``attributes`` are sorted pairs, so that equal nodes compare and hash equal.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    updates: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the node: that of its first output, or of what it updates without one."""
        return (self.outputs or self.updates)[0]

    @property
    def options(self) -> dict[str, Attribute]:
        """The attributes as keyword arguments."""
        return dict(self.attributes)


def make_node(
    operator: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    *,
    updates: tuple[str, ...] = (),
    **attributes: Attribute,
) -> Node:
    """Return a node with its attributes given as keywords."""
    return Node(operator, inputs, outputs, tuple(sorted(attributes.items())), updates)


@record
class Graph:
    """A network: inputs, parameters, nodes in order of execution, and the names of its outputs."""

    inputs: tuple[Value, ...]
    parameters: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def node(self, name: str) -> Node:
        """Return the node that defines the value ``name``; raises GraphError if none does."""
        for node in self.nodes:
            if name in node.outputs:
                return node
        raise GraphError("the graph has no node that defines {name!r}", name=name)

    def producers(self) -> dict[str, Node]:
        """Map every value that a node defines to that node."""
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Map every value to the nodes that read or update it, in order; unread values to []."""
        readers: dict[str, list[Node]] = {name: [] for name in self.value_names()}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *node.updates)):
                readers[name].append(node)
        return readers

    def value_names(self) -> Iterator[str]:
        """Yield the name of every value: inputs, parameters, then node outputs in order."""
        yield from (value.name for value in (*self.inputs, *self.parameters))
        for node in self.nodes:
            yield from node.outputs
