"""Legality as code: the rules every graph keeps, checked after it is built and after every pass.

``verify`` checks names, order, operators, attributes and shapes; ``infer_types`` is its shape half
on its own, and gives the concrete shapes of a run when the shapes of the inputs are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping

from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, Shape, TensorType, Value
from lushan.graph.operators import BYTES, FLOATS, OPERATORS, output_types
from lushan.graph.shape_rules import INTEGERS

ELEMENTS = (*FLOATS, *INTEGERS, *BYTES)


def verify(graph: Graph) -> None:
    """Raise GraphError, naming the node, for the first rule that ``graph`` breaks.

    The rules: every value has one definition, before its first use; every operator is known and
    has the inputs, outputs, attributes and updates of its signature; only parameters are updated;
    element types are known ones, sizes at least 1 and those of parameters known; every shape rule
    holds; outputs exist, and there is at least one.
    """
    defined: set[str] = set()
    for values, known in ((graph.inputs, False), (graph.parameters, True)):
        for value in values:
            _define(value.name, defined)
            _check_declaration(value, known=known)
    parameters = {value.name for value in graph.parameters}
    for node in graph.nodes:
        check_signature(node)
        for name in node.inputs:
            if name not in defined:
                raise GraphError(
                    "node {node!r} reads {name!r}, which nothing before it defines",
                    node=node.name,
                    name=name,
                )
        for name in node.updates:
            if name not in parameters:
                raise GraphError(
                    "node {node!r} updates {name!r}, which is not a parameter",
                    node=node.name,
                    name=name,
                )
        for name in node.outputs:
            _define(name, defined)
    if not graph.outputs:
        raise GraphError("the graph has no outputs")
    for name in graph.outputs:
        if name not in defined:
            raise GraphError("the output {name!r} is not defined by any node", name=name)
    infer_types(graph)


def infer_types(
    graph: Graph, input_shapes: Mapping[str, Shape] | None = None
) -> dict[str, TensorType]:
    """Return the type of every value of ``graph``.

    ``input_shapes`` fixes the shapes of inputs by name; without it, sizes that only a run knows
    are ``None``. Raises GraphError when shapes do not fit together, or an input's declaration.
    """
    types = {value.name: value.type for value in (*graph.inputs, *graph.parameters)}
    for name, shape in (input_shapes or {}).items():
        declared = _declared_input(graph, name)
        fits = len(shape) == len(declared.shape) and all(
            want is None or want == got for want, got in zip(declared.shape, shape, strict=True)
        )
        if not fits or any(size is not None and size < 1 for size in shape):
            raise GraphError(
                "input {name!r} should be {declared}; it received shape {shape}",
                name=name,
                declared=str(declared),
                shape=list(shape),
            )
        types[name] = TensorType(tuple(shape), declared.dtype)
    for node in graph.nodes:
        outputs = output_types(node, [types[name] for name in node.inputs])
        types.update(zip(node.outputs, outputs, strict=True))
    return types


def _declared_input(graph: Graph, name: str) -> TensorType:
    for value in graph.inputs:
        if value.name == name:
            return value.type
    raise GraphError(
        "the graph has no input {name!r}; its inputs are {known}",
        name=name,
        known=", ".join(value.name for value in graph.inputs),
    )


def _define(name: str, defined: set[str]) -> None:
    if name in defined:
        raise GraphError("the value {name!r} is defined twice", name=name)
    defined.add(name)


def _check_declaration(value: Value, *, known: bool) -> None:
    sizes = value.type.shape
    if (
        value.type.dtype not in ELEMENTS
        or any(size is not None and size < 1 for size in sizes)
        or (known and None in sizes)
    ):
        raise GraphError(
            "{name!r} is declared as {type}; sizes are at least 1, those of a parameter known, "
            "and elements one of {known}",
            name=value.name,
            type=str(value.type),
            known=", ".join(ELEMENTS),
        )


def check_signature(node: Node) -> None:
    """Raise GraphError unless ``node`` has what the signature of its operator asks for."""
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise GraphError(
            "node {node!r} uses the unknown operator {operator!r}",
            node=node.name if node.outputs or node.updates else "?",
            operator=node.operator,
        )
    counts = (
        ("inputs", len(node.inputs), operator.inputs),
        ("outputs", len(node.outputs), operator.outputs),
        ("updates", len(node.updates), (len(operator.updates),) * 2),
    )
    for what, count, (least, most) in counts:
        if not least <= count <= most:
            raise GraphError(
                "{operator} {node!r} has {count} {what}; it takes {least} to {most}",
                operator=node.operator,
                node=node.name if node.outputs or node.updates else "?",
                count=count,
                what=what,
                least=least,
                most=most,
            )
    updates = tuple(node.inputs[position] for position in operator.updates)
    if node.updates != updates:
        raise GraphError(
            "{operator} {node!r} updates {received}; of its inputs these should be {expected}",
            operator=node.operator,
            node=node.name,
            received=list(node.updates),
            expected=list(updates),
        )
    options = node.options
    if options.keys() != operator.attributes.keys():
        raise GraphError(
            "{operator} {node!r} has the attributes {received}; it takes {expected}",
            operator=node.operator,
            node=node.name,
            received=sorted(options),
            expected=sorted(operator.attributes),
        )
    for name, accepts in operator.attributes.items():
        if not accepts(options[name]):
            raise GraphError(
                "{operator} {node!r}: {value!r} is no valid {name}",
                operator=node.operator,
                node=node.name,
                value=options[name],
                name=name,
            )
