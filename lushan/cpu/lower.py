"""From a graph with known shapes to tasks for generated kernels.

Every value gets a plane in memory, with the halo that the convolutions reading it want as padding.
Every node becomes a step: one or more tasks. Which kernel a node gets depends on the node, its
height and width and the instruction set, never on batch or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.convolution import Epilogue, Geometry, convolution_task
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import choose_vectors
from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, TensorType

_CONVOLUTIONS = ("convolution", "fused_convolution")


@dataclass(frozen=True)
class Step:
    """The tasks of one node, what they read and write, and temporary planes of theirs."""

    name: str
    tasks: list[Task]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    temporaries: list[Plane] = field(default_factory=list)


@dataclass(frozen=True)
class Lowered:
    """A graph as steps in order, with the plane of every value."""

    steps: list[Step]
    planes: dict[str, Plane]


def lower(graph: Graph, types: Mapping[str, TensorType], packer: Packer, target: Target) -> Lowered:
    """Return the steps that compute ``graph`` for values of the given concrete ``types``."""
    halos = _halos(graph)
    names = [value.name for value in graph.inputs]
    names += [name for node in graph.nodes for name in node.outputs]
    planes = {name: Plane(name, _four(types[name]), halos.get(name, _NONE)) for name in names}
    context = _Context(planes, packer, target)
    steps = [
        Step(value.name, context.enter(index, planes[value.name]), (), (value.name,))
        for index, value in enumerate(graph.inputs)
    ]
    for node in graph.nodes:
        rule = _RULES.get(node.operator)
        if rule is None:
            raise GraphError(
                "the CPU engine has no kernel for {operator} {name!r}",
                operator=node.operator,
                name=node.name,
            )
        tasks = rule(context, node)
        halo = [task for name in node.outputs for task in context.fill(planes[name])]
        reads = tuple(name for name in node.inputs if name in planes)
        steps.append(Step(node.name, [*halo, *tasks], reads, node.outputs))
    return Lowered(steps, planes)


_NONE = (0, 0, 0, 0)


def _four(type_: TensorType) -> tuple[int, int, int, int]:
    """Return a concrete shape as [N, H, W, C]; [N, C] has height and width 1."""
    sizes = [size or 0 for size in type_.shape]
    if len(sizes) == 2:
        return sizes[0], 1, 1, sizes[1]
    if len(sizes) != 4:
        raise GraphError("the CPU engine has no layout for a value of {type}", type=str(type_))
    return sizes[0], sizes[1], sizes[2], sizes[3]


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


@dataclass(frozen=True)
class _Context:
    """What every rule needs: where values lie, the weights, the instruction set."""

    planes: Mapping[str, Plane]
    packer: Packer
    target: Target

    def enter(self, index: int, plane: Plane) -> list[Task]:
        """Return the tasks that copy input number ``index`` into its plane."""
        return [*self.fill(plane), *copy_input_tasks(index, plane, self.target)]

    def fill(self, plane: Plane) -> list[Task]:
        """Return the tasks that set the halo of a plane to zero, none where there is none."""
        return fill_halo_tasks(plane, self.target) if any(plane.halo) else []


def _convolution(context: _Context, node: Node) -> list[Task]:
    """Lower a convolution, fused or not, to one task per group."""
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    weight = context.packer[node.inputs[1]]  # [OC, KH, KW, IC/groups]
    groups = options["groups"]
    oc = weight.shape[0] // groups
    bias_name = node.inputs[2] if len(node.inputs) > 2 else None
    vectors = choose_vectors(oc, context.target)
    epilogue = Epilogue(
        context.planes[node.inputs[3]] if len(node.inputs) > 3 else None,
        options.get("activation", "none"),
        options.get("slope", 0.0),
    )

    def pack(group: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        part = slice(group * oc, (group + 1) * oc)
        bias = context.packer[bias_name][part] if bias_name else np.zeros(oc, np.float32)
        return context.packer.panels(weight[part], bias, vectors)

    return [
        convolution_task(
            x,
            y,
            Geometry(options["stride"], options["padding"], options["dilation"]),
            context.packer.once((node.inputs[1], bias_name, group), partial(pack, group)),
            (weight.shape[1], weight.shape[2]),
            epilogue=epilogue,
            group=(group, groups),
            target=context.target,
        )
        for group in range(groups)
    ]


def _linear(context: _Context, node: Node) -> list[Task]:
    """Lower a fully connected layer to a 1×1 convolution over one row of N pixels."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    weight = context.packer[node.inputs[1]][:, None, None]
    oc = weight.shape[0]
    bias_name = node.inputs[2] if len(node.inputs) > 2 else None
    vectors = choose_vectors(oc, context.target)

    def pack() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        bias = context.packer[bias_name] if bias_name else np.zeros(oc, np.float32)
        return context.packer.panels(weight, bias, vectors)

    def row(plane: Plane) -> Plane:
        return Plane(plane.value, (1, 1, plane.shape[0], plane.shape[3]))

    return [
        convolution_task(
            row(x),
            row(y),
            Geometry((1, 1), (0, 0, 0, 0), (1, 1)),
            context.packer.once((node.inputs[1], bias_name), pack),
            (1, 1),
            epilogue=Epilogue(),
            group=(0, 1),
            target=context.target,
        )
    ]


_RULES: Mapping[str, Callable[[_Context, Node], list[Task]]] = {
    "convolution": _convolution,
    "fused_convolution": _convolution,
    "linear": _linear,
}
