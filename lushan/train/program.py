"""What the loop asks of a training program: steps, and parameters that can be read.

The arithmetic of a step is not the loop's business. Whatever satisfies ``TrainingProgram`` can be
trained, checkpointed and resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from lushan.graph import interpret, training
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.train.settings import Settings


class TrainingProgram(Protocol):
    """One training step, again and again: forward, loss, backward, update."""

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Do one step, and return what it saw.

        Inputs: ``input`` float32 [N, H, W, 3]; ``targets`` float32 [N, K], a row of weights of the
        classes for each picture; and the numbers ``learning_rate``, ``momentum`` and
        ``weight_decay``. Outputs: ``loss`` [], the mean over the batch; ``scores`` [N, K] before
        the update; and whatever else the program reports, such as norms of gradients.
        """

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Everything that steps change or read, by name: weights, statistics, velocities.

        Those of the network bear their names. A program made from a copy of all of them continues
        bit for bit like this one.
        """

    def close(self) -> None:
        """Give back threads and memory; a closed program refuses to run. May be called twice."""


TRAINING_ENGINE = "cpu"

ProgramFactory: TypeAlias = Callable[[Mapping[str, Array]], TrainingProgram]
"""Makes a program from the weights of a network, or from all parameters of another program."""


def program_factory(
    graph: Graph, settings: Settings, *, engine: str, threads: int | None = None
) -> ProgramFactory:
    """Return what makes programs that train ``graph`` as ``settings`` say, on an engine.

    Targets come with label smoothing and class weights in them already. Raises GraphError for a
    prefix in ``settings.freeze`` that no parameter has, and where nothing is left to train.
    """
    step = training.training_step(
        graph, frozen=settings.freeze, watch=settings.watch_gradients, clip=settings.clip
    )

    def make(weights: Mapping[str, Array]) -> TrainingProgram:
        state = training.training_state(step, weights)
        return training.TrainingProgram(step, state, _ENGINES[engine], threads=threads)

    return make


def _reference(
    graph: Graph, weights: Mapping[str, Array], *, threads: int | None = None
) -> training.UpdatingProgram:
    return interpret.compile(graph, weights, threads=threads)


def _cpu(
    graph: Graph, weights: Mapping[str, Array], *, threads: int | None = None
) -> training.UpdatingProgram:
    """Compile to native code: the whole step is one program."""
    from lushan.cpu import executor

    return executor.compile(graph, weights, threads=threads)


# The reference engine runs the nodes of a step as they are.
_ENGINES: Mapping[str, training.UpdatingEngine] = {"cpu": _cpu, "reference": _reference}
