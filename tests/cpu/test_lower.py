"""Lowering: when the output of a node may lie where one of its inputs does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lushan.cpu import executor
from lushan.cpu.lower import Lowered
from lushan.cpu.program import _schedule
from lushan.cpu.target import Target, detect
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from support.compare import relative_rms
from support.lowering import lowered_for
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
