"""The executor seam: what every engine offers, whatever it does inside.

An engine is a function ``compile(graph, weights, *, keep=(), threads=None) -> Program``. The
reference engine is ``lushan.graph.interpret.compile``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from lushan.errors import GraphError
from lushan.graph.ir import Graph
from lushan.graph.weights import shape_of

Array: TypeAlias = npt.NDArray[Any]


class Program(Protocol):
    """A compiled graph, ready to run at any batch, height and width."""

    def __call__(
        self, inputs: Mapping[str, Array], *, threads: int | None = None
    ) -> dict[str, Array]:
        """Run once: named inputs → the graph's outputs and every value named in ``keep``.

        ``threads`` bounds how many threads this run uses, where the engine has a say in it; None
        is all that the program may use. The numbers are the same.
        """

    def prepare(self, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Do now what the first run with inputs of these shapes would do once.

        Raises what that run would raise, for weights that turn out to be damaged for example.
        """

    def close(self) -> None:
        """Give back threads and memory; a closed program refuses to run. May be called twice."""


@runtime_checkable
class ProfilingProgram(Program, Protocol):
    """A program that can also tell where its time goes; an engine need not offer this."""

    def profile(self, inputs: Mapping[str, Array]) -> list[tuple[str, float]]:
        """Run once, and return the seconds that each step took, in order.

        A step is named after a value of the graph that it computes, the last one where it computes
        several; together the steps compute them all.
        """


class Engine(Protocol):
    """Compiles a graph with its weights into a program.

    ``keep`` names inner values that every run returns beside the outputs. ``threads`` is how many
    threads a run may use, None for all that the process may use.
    """

    def __call__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        *,
        keep: Sequence[str] = (),
        threads: int | None = None,
    ) -> Program:
        """Return the program; raises GraphError for an illegal graph or missing weights."""


def check_weights(graph: Graph, weights: Mapping[str, Array]) -> None:
    """Raise GraphError unless ``weights`` has every parameter of ``graph`` in its shape."""
    for value in graph.parameters:
        if value.name not in weights:
            raise GraphError("no weights for the parameter {name!r}", name=value.name)
        shape = shape_of(weights, value.name)
        if shape != value.type.shape:
            raise GraphError(
                "parameter {name!r} should have shape {expected}; its weights have {received}",
                name=value.name,
                expected=list(value.type.shape),
                received=list(shape),
            )


def check_keep(graph: Graph, keep: Sequence[str]) -> None:
    """Raise GraphError unless every name in ``keep`` is a value of ``graph``."""
    known = set(graph.value_names())
    for name in keep:
        if name not in known:
            raise GraphError("cannot keep {name!r}: the graph has no such value", name=name)


def check_inputs(graph: Graph, inputs: Mapping[str, Array]) -> None:
    """Raise GraphError unless ``inputs`` has exactly the inputs of ``graph``, as numbers.

    Shapes are the business of ``verify.infer_types``.
    """
    expected = [value.name for value in graph.inputs]
    if sorted(inputs) != sorted(expected):
        raise GraphError(
            "the program takes the inputs {expected}; it received {received}",
            expected=sorted(expected),
            received=sorted(inputs),
        )
    for value in graph.inputs:
        kind = inputs[value.name].dtype
        wanted = np.floating if value.type.dtype.startswith("float") else np.integer
        if not np.issubdtype(kind, wanted):
            raise GraphError(
                "input {name!r} should be {expected}; it received {received}",
                name=value.name,
                expected=value.type.dtype,
                received=str(kind),
            )
