"""The engines by name. Each takes the graph as it was built and rewrites it as it likes.

An engine is imported when it is first used: the reference engine needs no compiler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lushan import passes
from lushan.graph.executor import Array, Engine, Program
from lushan.graph.ir import Graph

DEFAULT_ENGINE = "cpu"


def _cpu(
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
) -> Program:
    """Compile to native code for this processor."""
    from lushan.cpu import executor

    return executor.compile(graph, weights, keep=keep, threads=threads)


def _reference(
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
) -> Program:
    """Interpret with NumPy, after the passes; NumPy's BLAS chooses its own threads."""
    from lushan.graph import interpret

    rewritten, new_weights = passes.apply(graph, weights, keep=keep)
    # NumPy's matrix products want a weight in one piece, once rather than in every run.
    held = {name: np.asarray(array, order="C") for name, array in new_weights.items()}
    return interpret.compile(rewritten, held, keep=keep, threads=threads)


ENGINES: Mapping[str, Engine] = {"cpu": _cpu, "reference": _reference}
