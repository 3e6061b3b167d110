"""The passes, in the order they run, each with the reason for its place.

A pass maps (graph, weights) to (graph, weights) with the same meaning; it never runs a network.
The graph is verified before the first pass, and after each that changed it: a wrong pass is found
at once.
New weights are computed from the old ones and the graph alone, so they keep the origin.

One more stands apart, because it changes the numbers and must be told the ranges of values:
``quantize``. It comes after all the others (``apply_and_quantize``), and the others leave alone
what it made, so an engine that applies them takes a quantised graph like any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.verify import verify
from lushan.passes.fold_batch_norm import fold_batch_norm
from lushan.passes.fuse import fuse
from lushan.passes.quantize import quantize
from lushan.reference.quantization import QuantizationParameters


class Pass(Protocol):
    """Rewrites a graph and its weights; values named in ``keep`` survive with their numbers."""

    def __call__(
        self, graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
    ) -> tuple[Graph, Mapping[str, Array]]:
        """Return the rewritten graph and its weights; the arguments are not changed."""


PASSES: tuple[tuple[Pass, str], ...] = (
    (fold_batch_norm, "first: it leaves plain convolutions for every later pass to see"),
    (fuse, "last: what it makes, no other pass needs to understand"),
)


def apply(
    graph: Graph, weights: Mapping[str, Array], *, keep: Collection[str] = ()
) -> tuple[Graph, Mapping[str, Array]]:
    """Run every pass in order and return the rewritten graph and weights."""
    verify(graph)
    for rewrite, _ in PASSES:
        rewritten, weights = rewrite(graph, weights, keep=keep)
        if rewritten != graph:  # nothing to do, in a network on bytes: it was verified before
            verify(rewritten)
        graph = rewritten
    return graph, weights


def apply_and_quantize(
    graph: Graph, weights: Mapping[str, Array], parameters: Mapping[str, QuantizationParameters]
) -> tuple[Graph, Mapping[str, Array]]:
    """Run every pass, then ``quantize`` with ``parameters``; return graph and weights."""
    graph, weights = quantize(*apply(graph, weights), parameters)
    verify(graph)
    return graph, weights
