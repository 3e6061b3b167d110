"""The list of passes: verified after each, in the order that the list gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lushan import passes
from lushan.errors import GraphError
from lushan.graph.builder import GraphBuilder


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
