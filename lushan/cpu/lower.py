"""From a graph with known shapes to tasks for generated kernels.

Every value gets a plane in memory, with the halo that the convolutions reading it want as padding.
Every node becomes a step: one or more tasks. Which algorithm a node gets depends on the node, its
height and width and the instruction set, never on batch or threads; those only say how the work is
cut, which changes no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.batch_norm_chains import join_chains
from lushan.cpu.emit import FIRST_INPUT
from lushan.cpu.layout import copy_tasks, fill_halo_tasks
from lushan.cpu.lowering_context import Context, Lowering, Options
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, TensorType
from lushan.graph.liveness import last_uses
from lushan.graph.operators import OPERATORS
from lushan.record import field, record
from lushan.reference.quantization import padding_bytes

_CONVOLUTIONS = ("convolution", "fused_convolution", "quantized_convolution")


Rule: TypeAlias = Callable[[Context, Node], Lowering]


@record
class Step:
    """The tasks of one node, what they read and write, and temporary planes of theirs.

    ``reads`` and ``writes`` name the memory of planes: of one that is written in place of another
    they have the other's name. They name parameters, too, and what is packed of those: memory that
    is not planned, but waited for.
    """

    name: str
    tasks: list[Task]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    temporaries: list[Plane] = field(default_factory=list)


@record
class Lowered:
    """A graph as steps in order, with the plane of every value, and the values wanted at the end.

    ``inputs`` are the values that lie where the caller has them, by their number in the bases.
    """

    steps: list[Step]
    planes: dict[str, Plane]
    inputs: dict[str, int]
    wanted: frozenset[str]


def lower(
    graph: Graph,
    types: Mapping[str, TensorType],
    packer: Packer,
    target: Target,
    options: Options,
    wanted: Collection[str],
) -> Lowered:
    """Return the steps that compute ``graph`` for values of the given concrete ``types``.

    The values in ``wanted`` are there to be read at the end.
    """
    halos = _halos(graph)
    names = [value.name for value in graph.inputs]
    names += [name for node in graph.nodes for name in node.outputs]
    planes = {
        name: Plane(name, shape_of(types[name]), halos.get(name, _NONE), item_size(types[name]))
        for name in names
    }
    ends = dict(zip((n.name for n in graph.nodes), last_uses(graph, wanted), strict=True))
    inputs: dict[str, int] = {}
    context = Context(planes, ends, packer, target, options)
    padding = _padding(graph, planes, packer)
    readers = graph.consumers()
    steps = []
    for number, value in enumerate(graph.inputs):
        plane = planes[value.name]
        if value.type.dtype != "float32":
            raise _no_layout(value.type)
        outside = Plane(f"{value.name} of the caller", plane.shape)
        inputs[outside.value] = FIRST_INPUT + number
        if value.name not in wanted and all(n.operator == "quantize" for n in readers[value.name]):
            planes[value.name] = outside  # read once, number by number: no copy is needed
            continue
        tasks = [*fill_halo_tasks(plane, target), *copy_tasks(outside, plane, target)]
        steps.append(Step(value.name, tasks, (), (value.name,)))
    for node in _joint_nodes(graph, wanted, context) if is_training(graph) else graph.nodes:
        rule = _rule(node.operator)
        if rule is None:
            raise GraphError(
                "the CPU engine has no kernel for {operator} {name!r}",
                operator=node.operator,
                name=node.name,
            )
        context.packing.clear()
        tasks, temporaries = rule(context, node)
        packing = [
            Step(f"{node.name} packing", p.tasks, (p.reads,), (p.writes,)) for p in context.packing
        ]
        # One step early: so they share a phase with it.
        changed = steps[-1].writes if steps else ()
        place = len(steps) - (not any(p.reads in changed for p in context.packing))
        steps[max(0, place) : max(0, place)] = packing
        halo = [
            task
            for name in node.outputs
            for task in fill_halo_tasks(planes[name], target, value=padding.get(name, 0.0))
        ]
        reads = tuple(planes[name].value if name in planes else name for name in node.inputs)
        reads += tuple(p.writes for p in context.packing)
        writes = (*(planes[name].value for name in node.outputs), *node.updates)
        steps.append(Step(node.name, [*halo, *tasks], reads, writes, temporaries))
    return Lowered(steps, planes, inputs, frozenset(wanted))


def _joint_nodes(graph: Graph, wanted: Collection[str], context: Context) -> list[Node]:
    """Return the nodes of a training step, those that are computed together as one.

    As with rules, what only training needs is loaded here: see ``_rule``.
    """
    from lushan.cpu.gradient_chains import join_gradients
    from lushan.cpu.gradient_rules import is_direct_input_gradient

    nodes = join_chains(graph, wanted)
    return join_gradients(
        graph, nodes, wanted, lambda node: is_direct_input_gradient(context, node)
    )


_NONE = (0, 0, 0, 0)


def shape_of(type_: TensorType) -> tuple[int, int, int, int]:
    """Return how many elements a value of a concrete type takes, as [N, H, W, C].

    [N, C] has height and width 1, [C] and a single number are one pixel; an int64 takes the room
    of two float32.
    """
    sizes = [size or 0 for size in type_.shape]
    if len(sizes) < 2:
        sizes = [1, 1, 1, *(sizes or [1])]
    elif len(sizes) == 2:
        sizes[1:1] = [1, 1]
    if len(sizes) != 4 or type_.dtype not in ("float32", "uint8", "int64"):
        raise _no_layout(type_)
    n, h, w, c = sizes
    return n, h, w, 2 * c if type_.dtype == "int64" else c


def _no_layout(type_: TensorType) -> GraphError:
    return GraphError(
        "the CPU engine has no layout for a value of {type}: pictures and scores are float32",
        type=str(type_),
    )


def item_size(type_: TensorType) -> int:
    """Return the bytes of an element of a value: of a float32, or of a byte."""
    return 1 if type_.dtype == "uint8" else FLOAT


def _padding(
    graph: Graph, planes: Mapping[str, Plane], packer: Packer
) -> dict[str, NDArray[np.uint8]]:
    """Return for each value of bytes that is padded the byte of each channel that means 0, [C]."""
    found: dict[str, NDArray[np.uint8]] = {}
    for node in graph.nodes:
        x = node.inputs[0] if node.inputs else ""
        if node.operator != "quantized_convolution" or planes[x].is_dense:
            continue
        channels = planes[x].shape[3]
        value = np.broadcast_to(padding_bytes(packer[node.inputs[1]]), channels)
        if not np.array_equal(found.setdefault(x, value), value):
            raise GraphError("two convolutions disagree on what {name!r} is padded with", name=x)
    return found


def _halos(graph: Graph) -> dict[str, tuple[int, int, int, int]]:
    """Return for each value the most padding, side by side, that a convolution reads it with."""
    halos: dict[str, tuple[int, int, int, int]] = {}
    shapes: dict[str, Any] = {value.name: value.type.shape for value in graph.parameters}
    for node in graph.nodes:
        if node.operator in _CONVOLUTIONS:
            _widen(halos, node.inputs[0], node.options["padding"])
        elif node.operator == "convolution_backward_weight":
            _widen(halos, node.inputs[1], node.options["padding"])
        elif node.operator == "convolution_backward_input":
            from lushan.cpu.gradient_rules import flipped_padding

            kernel = shapes[node.inputs[1]][1:3]
            padding = flipped_padding(node.options, kernel)
            if padding:
                _widen(halos, node.inputs[0], padding)
    return halos


def _widen(halos: dict[str, tuple[int, int, int, int]], name: str, padding: Any) -> None:
    old = halos.get(name, _NONE)
    top, bottom, left, right = (max(a, b) for a, b in zip(old, padding, strict=True))
    halos[name] = (top, bottom, left, right)


def is_training(graph: Graph) -> bool:
    """Return whether something in ``graph`` is there for training alone."""
    return any(_of_training(node.operator) for node in graph.nodes)


def _of_training(operator: str) -> bool:
    if OPERATORS[operator].elements:
        return False
    from lushan.cpu.rules import RULES

    return operator not in RULES


def _rule(operator: str) -> Rule | None:
    """Return how an operator is lowered, None where that is not known.

    Rules on bytes, on float32 and of training are loaded when the first of them is needed: a
    process that needs one kind only starts 10 ms sooner.
    """
    if OPERATORS[operator].elements:
        from lushan.cpu.quantized_rules import QUANTIZED_RULES

        return QUANTIZED_RULES.get(operator)
    if not _of_training(operator):
        from lushan.cpu.rules import RULES

        return RULES[operator]
    from lushan.cpu.gradient_rules import GRADIENT_RULES

    return GRADIENT_RULES.get(operator)
