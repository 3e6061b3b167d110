"""From a graph with known shapes to tasks for generated kernels.

Every value gets a plane in memory, with the halo that the convolutions reading it want as padding.
Every node becomes a step: one or more tasks. Which kernel a node gets depends on the node, its
height and width and the instruction set, never on batch or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.convolution import Argument, ConvolutionKernel
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import choose_chunks, choose_tile, choose_vectors
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
