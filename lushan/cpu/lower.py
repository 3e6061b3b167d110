"""From a graph with known shapes to tasks for generated kernels.

Every value gets a plane in memory, with the halo that the convolutions reading it want as padding.
Every node becomes a step: one or more tasks. Which algorithm a node gets depends on the node, its
height and width and the instruction set, never on batch or threads; those only say how the work is
cut, which changes no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import activation_tasks, prelu_tasks
from lushan.cpu.batch_norm import batch_norm_tasks
from lushan.cpu.convolution import Epilogue, Geometry, choose_convolution_tile, convolution_task
from lushan.cpu.emit import FIRST_INPUT
from lushan.cpu.global_average_pooling import global_average_pooling_tasks
from lushan.cpu.layout import copy_tasks, fill_halo_tasks
from lushan.cpu.packing import Allocate, Packer, Panels
from lushan.cpu.pooling import average_pooling_tasks, max_pooling_tasks
from lushan.cpu.quantized_lower import RULES as QUANTIZED_RULES
from lushan.cpu.quantized_lower import halo_tasks
from lushan.cpu.residual import add_tasks, zero_padding_shortcut_tasks
from lushan.cpu.softmax import softmax_tasks
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import LINEAR_VECTORS, choose_vectors
from lushan.cpu.transposed_convolution import transposed_convolution_tasks
from lushan.cpu.winograd import suitable_outputs, winograd_tasks
from lushan.cpu.winograd_packing import winograd_shape, write_winograd_weights
from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, TensorType
from lushan.graph.liveness import last_uses
from lushan.graph.weights import Factors
from lushan.passes.quantize import byte_parameters

_CONVOLUTIONS = ("convolution", "fused_convolution", "quantized_convolution")


@dataclass(frozen=True)
class Step:
    """The tasks of one node, what they read and write, and temporary planes of theirs.

    ``reads`` and ``writes`` name the memory of planes: of one that is written in place of another
    they have the other's name.
    """

    name: str
    tasks: list[Task]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    temporaries: list[Plane] = field(default_factory=list)


@dataclass(frozen=True)
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
        name: Plane(
            name,
            shape_of(types[name]),
            halos.get(name, _NONE),
            1 if types[name].dtype == "uint8" else FLOAT,
        )
        for name in names
    }
    zero_points = {name: zero for name, (_, zero) in byte_parameters(graph).items()}
    ends = dict(zip((n.name for n in graph.nodes), last_uses(graph, wanted), strict=True))
    context = Context(planes, ends, packer, target, options)
    inputs: dict[str, int] = {}
    steps = []
    for number, value in enumerate(graph.inputs):
        plane = planes[value.name]
        outside = Plane(f"{value.name} of the caller", plane.shape)
        inputs[outside.value] = FIRST_INPUT + number
        tasks = [*fill_halo_tasks(plane, target), *copy_tasks(outside, plane, target)]
        steps.append(Step(value.name, tasks, (), (value.name,)))
    for node in graph.nodes:
        rule = _RULES.get(node.operator)
        if rule is None:
            raise GraphError(
                "the CPU engine has no kernel for {operator} {name!r}",
                operator=node.operator,
                name=node.name,
            )
        tasks, temporaries = rule(context, node)
        halo = [
            task
            for name in node.outputs
            for task in (
                halo_tasks(context, planes[name], zero_points[name])
                if name in zero_points
                else fill_halo_tasks(planes[name], target)
            )
        ]
        reads = tuple(planes[name].value for name in node.inputs if name in planes)
        writes = tuple(planes[name].value for name in node.outputs)
        steps.append(Step(node.name, [*halo, *tasks], reads, writes, temporaries))
    return Lowered(steps, planes, inputs, frozenset(wanted))


@dataclass(frozen=True)
class Options:
    """What the caller decides: how many threads, and whether Winograd's convolution is used."""

    threads: int = 1
    winograd: bool = True


_NONE = (0, 0, 0, 0)


def shape_of(type_: TensorType) -> tuple[int, int, int, int]:
    """Return how many float32 a value of a concrete type takes, as [N, H, W, C].

    [N, C] has height and width 1; an int64 takes the room of two float32.
    """
    sizes = [size or 0 for size in type_.shape]
    if len(sizes) == 2:
        sizes[1:1] = [1, 1]
    if len(sizes) != 4:
        raise GraphError("the CPU engine has no layout for a value of {type}", type=str(type_))
    n, h, w, c = sizes
    return n, h, w, 2 * c if type_.dtype == "int64" else c


def _halos(graph: Graph) -> dict[str, tuple[int, int, int, int]]:
    """Return for each value the most padding, side by side, that a convolution reads it with."""
    halos: dict[str, tuple[int, int, int, int]] = {}
    for node in graph.nodes:
        if node.operator in _CONVOLUTIONS:
            padding: Any = node.options["padding"]
            old = halos.get(node.inputs[0], _NONE)
            top, bottom, left, right = (max(a, b) for a, b in zip(old, padding, strict=True))
            halos[node.inputs[0]] = (top, bottom, left, right)
    return halos


Lowering: TypeAlias = tuple[list[Task], list[Plane]]  # a step's tasks and temporary planes


@dataclass(frozen=True)
class Context:
    """What every rule needs: where values lie and when they end, weights, the instruction set."""

    planes: dict[str, Plane]
    ends: Mapping[str, Sequence[str]]  # by node, what nothing after it needs
    packer: Packer
    target: Target
    options: Options

    def overwrite(self, node: Node, name: str) -> Plane:
        """Return the plane of a node's output: that of its input ``name`` if it may lie there.

        It may where nothing else needs the input any more and the two lie alike. Then a picture
        takes less memory, and what is written is in the cache already. The node must read each
        number before it writes there, and only for that.
        """
        mine, other = self.planes[node.name], self.planes[name]
        ends = name in self.ends[node.name] and node.inputs.count(name) == 1
        alike = (mine.shape, mine.halo, mine.element) == (other.shape, other.halo, other.element)
        if ends and alike:
            self.planes[node.name] = other
        return self.planes[node.name]

    def bias(self, node: Node, channels: int) -> NDArray[np.float32]:
        """Return the bias of a convolution or a fully connected layer, zeros without one."""
        if len(node.inputs) > 2:
            return self.packer[node.inputs[2]]
        return np.zeros(channels, np.float32)

    def panels(self, node: Node, shape: tuple[int, ...], groups: int = 1) -> list[Panels]:
        """Return the packed weights of each group, [OC, KH, KW, IC] of them in ``shape``."""
        oc = shape[0]
        is_linear = node.operator == "linear"
        vectors = LINEAR_VECTORS if is_linear else choose_vectors(oc, self.target)

        def reserve(allocate: Allocate) -> list[Panels]:
            writer = self.packer.writer
            return [writer.reserve(shape, vectors, allocate) for _ in range(groups)]

        def write(panels: list[Panels]) -> None:
            array, scale = self.packer.factors(node.inputs[1])
            bias = self.bias(node, groups * oc)
            if is_linear:
                array = array[:, None, None]
            for group, (packed, biases) in enumerate(panels):
                part = slice(group * oc, (group + 1) * oc)
                weight = Factors(array[part], None if scale is None else scale[part])
                self.packer.writer.write(weight, packed)
                biases[-1] = 0
                biases.reshape(-1)[:oc] = bias[part]

        return self.packer.once((node.operator, vectors, *node.inputs[1:3]), reserve, write)


def _convolution(context: Context, node: Node) -> Lowering:
    """Lower a convolution, fused or not: Winograd's where it pays, else direct."""
    options: dict[str, Any] = node.options
    geometry = Geometry(options["stride"], options["padding"], options["dilation"])
    y = context.planes[node.name]
    epilogue = Epilogue(
        context.planes[node.inputs[3]] if len(node.inputs) > 3 else None,
        options.get("activation", "none"),
        options.get("slope", 0.0),
    )
    oc, kh, kw, ic = context.packer.shape(node.inputs[1])  # [OC, KH, KW, IC/groups]
    plain = geometry == Geometry((1, 1), (1, 1, 1, 1), (1, 1)) and options["groups"] == 1
    if context.options.winograd and plain and (kh, kw) == (3, 3):
        outputs = suitable_outputs(ic, oc, y.shape[1], y.shape[2], context.target)
        if outputs:
            return _winograd(context, node, outputs, epilogue)
    return _direct(context, node, geometry, epilogue), []


def _winograd(context: Context, node: Node, outputs: int, epilogue: Epilogue) -> Lowering:
    """Lower a 3×3 convolution to Winograd's with tiles of so many outputs."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    packer, channels = context.packer, y.shape[3]

    def reserve(allocate: Allocate) -> Panels:
        shape = winograd_shape(packer.shape(node.inputs[1]), outputs, context.target)
        return allocate(shape), allocate((channels,))

    def write(packed: Panels) -> None:
        write_winograd_weights(packer.factors(node.inputs[1]), outputs, packed[0], packer.writer)
        packed[1][:] = context.bias(node, channels)

    weights, biases = packer.once(("winograd", outputs, *node.inputs[1:3]), reserve, write)
    return winograd_tasks(
        x,
        y,
        epilogue.residual,
        weights,
        biases,
        outputs,
        context.target,
        activation=epilogue.activation,
        slope=epilogue.slope,
        threads=context.options.threads,
    )


def _direct(context: Context, node: Node, geometry: Geometry, epilogue: Epilogue) -> list[Task]:
    """Lower a convolution to one task per group."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    groups: Any = node.options["groups"]
    channels, kh, kw, ic = context.packer.shape(node.inputs[1])
    panels = context.panels(node, (channels // groups, kh, kw, ic), groups)
    vectors = panels[0][0].shape[-1] // context.target.lanes
    tile = choose_convolution_tile(x, y, geometry, vectors, context.target)
    # Tiles that overlap would read what the one before has written.
    if epilogue.residual and not y.shape[2] % tile.pixels:
        y = context.overwrite(node, node.inputs[3])
    return [
        convolution_task(
            x,
            y,
            geometry,
            packed,
            (kh, kw),
            epilogue=epilogue,
            group=(group, groups),
            target=context.target,
            threads=context.options.threads,
        )
        for group, packed in enumerate(panels)
    ]


def _transposed_convolution(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    del options["output_padding"]  # the size of y says it
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    weight = context.packer[node.inputs[1]]
    bias = context.packer[node.inputs[2]] if len(node.inputs) > 2 else None
    return transposed_convolution_tasks(x, y, weight, bias, target=context.target, **options), []


def _linear(context: Context, node: Node) -> Lowering:
    """Lower a fully connected layer to a 1×1 convolution over one row of N pixels."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    oc, ic = context.packer.shape(node.inputs[1])

    def row(plane: Plane) -> Plane:
        return Plane(plane.value, (1, 1, plane.shape[0], plane.shape[3]))

    task = convolution_task(
        row(x),
        row(y),
        Geometry((1, 1), (0, 0, 0, 0), (1, 1)),
        context.panels(node, (oc, 1, 1, ic))[0],
        (1, 1),
        epilogue=Epilogue(),
        group=(0, 1),
        target=context.target,
        threads=context.options.threads,
    )
    return [task], []


def _max_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y, *switches = (context.planes[name] for name in (*node.inputs, *node.outputs))
    winners = switches[0] if switches else None
    return max_pooling_tasks(x, y, winners, target=context.target, **options), []


def _average_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return average_pooling_tasks(x, y, target=context.target, **options), []


def _global_average_pooling(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return global_average_pooling_tasks(x, y, context.target), []


def _add(context: Context, node: Node) -> Lowering:
    a, b, y = (context.planes[name] for name in (*node.inputs, node.name))
    return add_tasks(a, b, y, context.target), []


def _activation(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    kind: Any = node.operator
    return activation_tasks(kind, x, y, context.target, **options), []


def _prelu(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return prelu_tasks(x, y, context.packer[node.inputs[1]], context.target), []


def _batch_norm(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    weight, bias, mean, variance = (context.packer[name] for name in node.inputs[1:])
    tasks = batch_norm_tasks(x, y, weight, bias, mean, variance, context.target, **options)
    return tasks, []


def _zero_padding_shortcut(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    stride: Any = node.options["stride"]
    return zero_padding_shortcut_tasks(x, y, context.target, stride=stride), []


def _softmax(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return softmax_tasks(x, y, context.target), []


_RULES: Mapping[str, Callable[[Context, Node], Lowering]] = {
    "convolution": _convolution,
    "fused_convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "linear": _linear,
    "max_pooling": _max_pooling,
    "average_pooling": _average_pooling,
    "global_average_pooling": _global_average_pooling,
    "relu": _activation,
    "leaky_relu": _activation,
    "sigmoid": _activation,
    "tanh": _activation,
    "prelu": _prelu,
    "add": _add,
    "zero_padding_shortcut": _zero_padding_shortcut,
    "batch_norm": _batch_norm,
    "softmax": _softmax,
    **QUANTIZED_RULES,
}
