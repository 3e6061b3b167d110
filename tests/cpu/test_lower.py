"""Lowering: every operator has a rule, kernels know nothing of height, width and batch; and when
the output of a node may lie where one of its inputs does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from lushan import passes
from lushan.cpu import executor, tiling, winograd_tiling
from lushan.cpu.code import code_store
from lushan.cpu.lower import Lowered, lower
from lushan.cpu.lowering_context import Options
from lushan.cpu.packing import Packer
from lushan.cpu.program import _schedule
from lushan.cpu.quantized_rules import QUANTIZED_RULES
from lushan.cpu.rules import RULES
from lushan.cpu.target import Target, detect
from lushan.cpu.task import Kernel, Task
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.interpret import MEANINGS
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from support.compare import relative_rms
from support.lowering import lowered_for
from support.operator_graphs import OPERATOR_GRAPHS
from support.random_graphs import random_weights

SHAPE = (2, 14, 14, 32)


def residual_graph(finish: Callable[[GraphBuilder, str, str], str]) -> Graph:
    """Two branches of ``x``; ``finish`` joins their names, "a" and "b", and may go on."""
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, SHAPE[3]))
    a = builder.convolution(x, "a", SHAPE[3], kernel=1)
    b = builder.convolution(x, "b", SHAPE[3], kernel=1)
    return builder.build(finish(builder, a, b))


def joined(builder: GraphBuilder, a: str, b: str) -> str:
    """Return c(b) + a, the sum that a convolution takes up."""
    c = builder.convolution(b, "c", SHAPE[3], kernel=1)
    return builder.node("add", (c, a), "sum")


def used_later(builder: GraphBuilder, a: str, b: str) -> str:
    total = builder.node("relu", (joined(builder, a, b),), "total")
    return builder.node("add", (builder.node("tanh", (a,), "late"), total), "end")


def read_at_once(builder: GraphBuilder, a: str, b: str) -> str:
    """``early`` reads a right before the sum overwrites it; nothing else is between them."""
    early = builder.node("tanh", (a,), "early")
    total = builder.node("relu", (joined(builder, a, b),), "total")
    return builder.node("add", (early, total), "end")


def of_itself(builder: GraphBuilder, a: str, b: str) -> str:
    """Both are one value: the convolution still reads it when the first tile is written."""
    c = builder.convolution(b, "c", SHAPE[3], kernel=1)
    total = builder.node("add", (c, b), "total")
    return builder.node("add", (builder.node("tanh", (total,), "t"), a), "end")


def lowered_graph(graph: Graph, width: int, target: Target, keep: tuple[str, ...] = ()) -> Lowered:
    shapes = {"x": (*SHAPE[:2], width, SHAPE[3])}
    return lowered_for(target, graph, random_weights(graph, 0), shapes, keep)


@pytest.mark.parametrize(
    ("finish", "width", "keep", "expected"),
    [
        (joined, 14, (), True),
        (joined, 28, (), True),
        (joined, 29, (), False),  # tiles overlap at the end of a row
        (joined, 14, ("a",), False),
        (used_later, 14, (), False),
        (read_at_once, 14, (), True),
    ],
)
def test_a_sum_lies_where_the_residual_was(
    finish: Callable[[GraphBuilder, str, str], str],
    width: int,
    keep: tuple[str, ...],
    expected: bool,
) -> None:
    graph = residual_graph(finish)
    planes = lowered_graph(graph, width, detect(), keep).planes
    name = "sum" if "sum" in planes else "total"
    assert (planes[name].value == planes["a"].value) is expected


def test_a_convolution_never_overwrites_what_it_reads() -> None:
    planes = lowered_graph(residual_graph(of_itself), 14, detect()).planes
    assert planes["t"].value != planes["b"].value


def test_who_reads_the_residual_is_done_before_it_is_overwritten() -> None:
    lowered = lowered_graph(residual_graph(read_at_once), 14, detect())
    phases = {entry.step.name: entry.first for entry in _schedule(lowered.steps)}
    assert phases["early"] < phases["total"]


@pytest.mark.parametrize("finish", [joined, used_later, read_at_once, of_itself])
@pytest.mark.parametrize("width", [14, 29])
@pytest.mark.parametrize("keep", [(), ("a", "b")], ids=["none", "kept"])
def test_the_numbers_are_the_same(
    finish: Callable[[GraphBuilder, str, str], str],
    width: int,
    keep: tuple[str, ...],
    target: Target,
) -> None:
    graph = residual_graph(finish)
    weights = random_weights(graph, 0)
    x = np.random.default_rng(1).standard_normal((*SHAPE[:2], width, SHAPE[3]), np.float32)
    ours = executor.compile(graph, weights, keep=keep, threads=2, target=target)({"x": x})
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = interpret.compile(graph, double, keep=keep)({"x": x.astype(np.float64)})
    assert set(ours) == set(exact)
    for name, values in exact.items():
        assert relative_rms(ours[name], values) <= 3e-6, name


# --- sizes --------------------------------------------------------------------------------------

# What may depend on the size of the picture, because it is chosen among few.
CHOSEN = {"tile", "outputs", "shared", "prefetch"}


def tasks_of(
    target: Target, graph: Graph, shapes: Iterable[tuple[int, int, int]]
) -> list[list[Task]]:
    """Return the tasks for pictures of each (batch, height, width), one after another."""
    weights = {value.name: np.ones(value.type.shape, np.float32) for value in graph.parameters}
    graph, weights = passes.apply(graph, weights)
    packer = Packer(weights, target, code_store(target))
    (value,) = graph.inputs
    found = []
    for shape in shapes:
        types = infer_types(graph, {value.name: (*shape, 3)})
        lowered = lower(graph, types, packer, target, Options(threads=2), set(graph.outputs))
        found.append([task for step in lowered.steps for task in step.tasks])
    return found


def kernels_of(target: Target, graph: Graph, shapes: Iterable[tuple[int, int, int]]) -> set[Kernel]:
    return {task.kernel for tasks in tasks_of(target, graph, shapes) for task in tasks}


def layer(kernel: Kernel) -> tuple[Any, ...]:
    """Return a kernel without what was chosen."""
    described: Any = kernel
    known = [(f.name, getattr(kernel, f.name)) for f in fields(described) if f.name not in CHOSEN]
    return type(kernel), *known


def random_shapes(count: int, largest: int) -> list[tuple[int, int, int]]:
    random = np.random.default_rng(0)
    return [
        (int(random.integers(1, 9)), *map(int, random.integers(32, largest, 2)))
        for _ in range(count)
    ]


def test_every_operator_has_a_rule_a_meaning_and_a_graph() -> None:
    used = {node.operator for graph in OPERATOR_GRAPHS.values() for node in graph.nodes}
    assert set(RULES) == used | {"fused_convolution"}  # which passes make
    assert {*RULES, *QUANTIZED_RULES} <= set(MEANINGS)
    assert set(QUANTIZED_RULES) == {name for name in MEANINGS if "quantize" in name}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_endless_sizes_need_few_kernels(target: Target, name: str) -> None:
    graph = build(ARCHITECTURES[name])
    found = kernels_of(target, graph, random_shapes(150, 600))
    # Three sizes have every layer in every form: direct, and Winograd's with both kinds of tiles.
    some = kernels_of(target, graph, [(1, 600, 600), (1, 224, 224), (1, 32, 32)])
    assert {layer(kernel) for kernel in found} <= {layer(kernel) for kernel in some}
    winograd_rows = winograd_tiling._WINOGRAD_ROWS[target.registers]
    tables = (tiling._PIXELS[target.registers], winograd_rows)
    most = max(len(pixels) for table in tables for pixels in table.values())
    for kind in {layer(kernel) for kernel in found}:
        same = [kernel for kernel in found if layer(kernel) == kind]
        assert len(same) <= most * 2 ** (len(CHOSEN) - 1)
    assert len(found) < 250  # measured: 60 to 180


@pytest.mark.parametrize("name", OPERATOR_GRAPHS)
def test_a_graph_has_the_same_kernels_at_any_size(target: Target, name: str) -> None:
    graph = OPERATOR_GRAPHS[name]
    first, second = (
        {layer(kernel) for kernel in kernels_of(target, graph, [shape])}
        for shape in ((1, 40, 48), (5, 61, 43))
    )
    assert first == second


@pytest.mark.parametrize("name", OPERATOR_GRAPHS)
def test_weights_are_packed_once_for_all_sizes(target: Target, name: str) -> None:
    first, second = (
        {
            value.ctypes.data
            for task in tasks
            for value in task.arguments.values()
            if isinstance(value, np.ndarray) and value.size >= 100  # not the factors of batch norm
        }
        for tasks in tasks_of(target, OPERATOR_GRAPHS[name], [(1, 40, 48), (5, 61, 43)])
    )
    assert first == second
