"""From a graph with known shapes to tasks for generated kernels.

Every value gets a plane in memory, with the halo that the convolutions reading it want as padding.
Every node becomes a step: one or more tasks. Which algorithm a node gets depends on the node, its
height and width and the instruction set, never on batch or threads; those only say how the work is
cut, which changes no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.batch_norm_chains import join_chains
from lushan.cpu.emit import FIRST_INPUT
from lushan.cpu.layout import copy_tasks, fill_halo_tasks
from lushan.cpu.lowering_context import Context, Lowering, Options
from lushan.cpu.packing import Packer
from lushan.cpu.parts import Part, Parts, depth_first
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, TensorType
from lushan.graph.liveness import last_uses
from lushan.graph.operators import OPERATORS
from lushan.record import field, record, replace
from lushan.reference.quantization import padding_bytes

_CONVOLUTIONS = ("convolution", "fused_convolution", "quantized_convolution")


Rule: TypeAlias = Callable[[Context, Node], Lowering]


@record
class Step:
    """The tasks of one node, what they read and write, and temporary planes of theirs.

    ``reads`` and ``writes`` name the memory of planes: of one that is written in place of another
    they have the other's name. They name parameters, too, and what is packed of those: memory that
    is not planned, but waited for. ``starts`` are those of its part; see ``Part``.
    """

    name: str
    tasks: list[Task]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    temporaries: list[Plane] = field(default_factory=list)
    starts: tuple[int, ...] = (0,)


@record
class Lowered:
    """A graph as steps in order, with the plane of every value, and the values wanted at the end.

    ``inputs`` are the values that lie where the caller has them, by their number in the bases.
    ``memory`` has the plane of every memory that steps name, with as many pictures as it holds:
    those of the part at ``depths``, in which all steps lie that read or write it.
    """

    steps: list[Step]
    planes: dict[str, Plane]
    inputs: dict[str, int]
    wanted: frozenset[str]
    memory: dict[str, Plane]
    depths: dict[str, int]


def lower(
    graph: Graph,
    types: Mapping[str, TensorType],
    packer: Packer,
    target: Target,
    options: Options,
    wanted: Collection[str],
    *,
    in_parts: bool = False,
) -> Lowered:
    """Return the steps that compute ``graph`` for values of the given concrete ``types``.

    The values in ``wanted`` are there to be read at the end. ``in_parts`` says that every value has
    one batch of pictures, none of which has to do with another: then they may run part by part.
    """
    halos = _halos(graph)
    names = [value.name for value in graph.inputs]
    names += [name for node in graph.nodes for name in node.outputs]
    planes = {
        name: Plane(name, shape_of(types[name]), halos.get(name, _NONE), item_size(types[name]))
        for name in names
    }
    ends = dict(zip((n.name for n in graph.nodes), last_uses(graph, wanted), strict=True))
    context = Context(planes, ends, packer, target, options)
    nodes = _joint_nodes(graph, wanted, context) if is_training(graph) else graph.nodes
    return _Lowering(graph, nodes, context, frozenset(wanted), in_parts).lower()


class _Lowering:
    """One graph on its way to steps."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        context: Context,
        wanted: frozenset[str],
        in_parts: bool,
    ) -> None:
        self.graph = graph
        self.nodes = nodes
        self.whole = context
        self.wanted = wanted
        self.padding = _padding(graph, context.planes, context.packer)
        self.outside = {
            value.name: Plane(f"{value.name} of the caller", context.planes[value.name].shape)
            for value in graph.inputs
        }
        self.parts = self._parts(in_parts)
        self.depths = self._depths()
        self.steps_of: dict[tuple[int, int], list[Step]] = {}  # by depth and count

    def lower(self) -> Lowered:
        for value in self.graph.inputs:
            if value.type.dtype != "float32":
                raise _no_layout(value.type)
            if self._is_read_in_place(value.name):
                self.whole.planes[value.name] = self.outside[value.name]
        steps = []
        for part in self.parts:
            key = part.depth, part.count
            if key not in self.steps_of:
                self.steps_of[key] = self._steps(part)
            steps += [replace(step, starts=part.starts) for step in self.steps_of[key]]
        planes = self.whole.planes
        memory = {
            plane.value: self._in_part(plane, self.parts.counts[self.depths[plane.value]])
            for plane in (*planes.values(), *self.outside.values())
        }
        inputs = {
            plane.value: FIRST_INPUT + number for number, plane in enumerate(self.outside.values())
        }
        return Lowered(steps, planes, inputs, self.wanted, memory, self.depths)

    def _in_part(self, plane: Plane, count: int) -> Plane:
        """Return what there is of a plane in a part of so many pictures."""
        return plane.of_pictures(count) if len(self.parts.counts) > 1 else plane

    def _parts(self, in_parts: bool) -> Parts:
        batches = {plane.shape[0] for plane in self.whole.planes.values()}
        if not in_parts or len(batches) != 1:
            # Not divided: the count is never used, planes stay as they are.
            return Parts((len(self.nodes),), (1,))
        sizes = {name: plane.of_pictures(1).bytes for name, plane in self.whole.planes.items()}
        moved, left = [], []
        alive: set[str] = set()
        for node in self.nodes:
            # A residual, which is read too, is mostly overwritten.
            moved.append(sum(sizes.get(name, 0) for name in {*node.inputs[:1], *node.outputs}))
            alive = (alive | set(node.outputs)) - set(self.whole.ends[node.name])
            left.append(sum(sizes[name] for name in alive))
        return depth_first(moved, left, *batches)

    def _depths(self) -> dict[str, int]:
        """Return the depth of the parts in which each value is written and read."""
        depths: dict[str, int] = {}
        deepest = len(self.parts.counts) - 1
        for value in self.graph.inputs:
            depths[value.name] = deepest
        for number, node in enumerate(self.nodes):
            depth = self.parts.depth(number)
            for name in (*node.inputs, *node.outputs):
                depths[name] = min(depth, depths.get(name, depth))
        whole = (*self.wanted, *(plane.value for plane in self.outside.values()))
        # Planes of values that joint nodes keep to themselves are at no depth, and never used.
        return {**dict.fromkeys(self.whole.planes, 0), **depths, **dict.fromkeys(whole, 0)}

    def _is_read_in_place(self, name: str) -> bool:
        """Whether an input is read once, number by number: no copy is needed."""
        readers = self.graph.consumers()[name]
        return name not in self.wanted and all(n.operator == "quantize" for n in readers)

    def _steps(self, part: Part) -> list[Step]:
        """Return the steps of a part.

        Notes which values lie in place of others: that may move their memory to an outer part.
        """
        whole = self.whole
        planes = {name: self._in_part(plane, part.count) for name, plane in whole.planes.items()}
        context = replace(whole, planes=planes)
        steps: list[Step] = []
        if not part.nodes.start:  # one of the deepest parts
            steps += self._copies(context)
        for number in part.nodes:
            node = self.nodes[number]
            self._add_node(steps, context, node)
            for name in node.outputs:
                # It may lie in place of another value now, wherever it is read.
                memory = context.planes[name].value
                whole.planes[name] = replace(whole.planes[name], value=memory)
                self.depths[memory] = min(self.depths[memory], self.depths[name])
        return steps

    def _copies(self, context: Context) -> list[Step]:
        """Return the steps that bring the caller's inputs to their planes."""
        steps = []
        for name, outside in self.outside.items():
            plane = context.planes[name]
            if plane.value == outside.value:
                continue
            source = replace(outside, shape=plane.shape)
            tasks = fill_halo_tasks(plane, context.target)
            tasks += copy_tasks(source, plane, context.target)
            steps.append(Step(name, tasks, (), (name,)))
        return steps

    def _add_node(self, steps: list[Step], context: Context, node: Node) -> None:
        """Add the step of a node, and before it what packs its parameters in every run."""
        planes = context.planes
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
            for task in fill_halo_tasks(
                planes[name], context.target, value=self.padding.get(name, 0.0)
            )
        ]
        reads = tuple(planes[name].value if name in planes else name for name in node.inputs)
        reads += tuple(p.writes for p in context.packing)
        writes = (*(planes[name].value for name in node.outputs), *node.updates)
        steps.append(Step(node.name, [*halo, *tasks], reads, writes, temporaries))


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
