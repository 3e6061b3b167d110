"""The list of passes: verified after each, in the order that the list gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lushan import passes
from lushan.errors import GraphError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph, TensorType, Value
from support.compare import relative_error
from support.random_graphs import random_weights


def test_a_pass_that_breaks_a_graph_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.node("relu", (builder.input("x", (None, 3)),), "y"))
    ran: list[str] = []

    def breaking(graph, weights, *, keep=()):
        ran.append("breaking")
        return replace(graph, outputs=("gone",)), weights

    def never(graph, weights, *, keep=()):
        ran.append("never")
        return graph, weights

    monkeypatch.setattr(passes, "PASSES", ((breaking, "first"), (never, "second")))
    with pytest.raises(GraphError, match="the output 'gone' is not defined"):
        passes.apply(graph, {})
    assert ran == ["breaking"]
    with pytest.raises(GraphError, match="the graph has no outputs"):
        passes.apply(replace(graph, outputs=()), {})
    assert ran == ["breaking"]


def test_element_types_stay() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 3))
    y = builder.batch_norm(builder.convolution(x, "a", 4, kernel=3), "bn")
    graph = builder.build(builder.node("relu", (builder.convolution(y, "b", 5, kernel=1),), "y"))

    def wide(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(Value(v.name, TensorType(v.type.shape, "float64")) for v in values)

    graph = Graph(wide(graph.inputs), wide(graph.parameters), graph.nodes, graph.outputs)
    weights = random_weights(graph, 0, np.float64)
    rewritten, folded = passes.apply(graph, weights)
    assert {value.type.dtype for value in rewritten.parameters} == {"float64"}
    inputs = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 3))}
    before = interpret.compile(graph, weights)(inputs)["y"]
    after = interpret.compile(rewritten, folded)(inputs)["y"]
    assert after.dtype == np.float64
    assert relative_error(after, before) < 1e-14
