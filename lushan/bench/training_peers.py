"""Who trains: one step of a workload, by lushan and by PyTorch with each setting that may be best.

A step is forward, loss, backward and update, on a batch that is prepared in each one's own form, so
that nothing else is timed. All begin with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from lushan.bench.peers import version_of
from lushan.bench.torch_network import to_tensor
from lushan.bench.torch_training import TorchTraining
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.training import (
    GRADIENT_NORM,
    LOSS,
    RATES,
    TARGETS,
    TrainingProgram,
    one_hot,
    training_state,
    training_step,
)
from lushan.train.settings import Settings

Step: TypeAlias = Callable[[], float]  # does one, and returns the loss before its update
_UNCLIPPED = 1e30  # asks for the norm of all gradients together, and changes none


@dataclass(frozen=True, eq=False)
class TrainingWorkload:
    """What is trained: ``graph`` from ``weights`` on one batch, again and again.

    ``x`` is float32 [N, H, W, 3], ``labels`` are class indices [N] of ``classes``. Of ``settings``
    count what a step computes: frozen layers, clipping, label smoothing, momentum, weight decay.
    ``learning_rate`` is the same in every step.
    """

    graph: Graph
    weights: Mapping[str, Array]
    x: Array
    labels: Array
    classes: int
    settings: Settings
    threads: int
    learning_rate: float = 0.01

    @property
    def rates(self) -> dict[str, float]:
        """The numbers of an update, by the name that both give them."""
        values = (self.learning_rate, self.settings.momentum, self.settings.weight_decay)
        return dict(zip(RATES, values, strict=True))


class TrainingPeer(Protocol):
    """A framework that trains."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that might be its best."""

    def available(self) -> str | None:
        """Return its version, or None where it is not installed."""

    def prepare(self, workload: TrainingWorkload, setting: str) -> Step:
        """Return its step, with weights of its own."""


class Lushan:
    """The training step of ``lushan train`` on the CPU engine, one native program."""

    name = "lushan"
    settings = ("cpu",)

    def available(self) -> str | None:
        """See ``TrainingPeer``."""
        return version_of("lushan")

    def prepare(self, workload: TrainingWorkload, setting: str) -> Step:
        """See ``TrainingPeer``."""
        program = _program(workload, workload.settings.clip)
        inputs = _inputs(workload)
        return lambda: float(program.step(inputs)[LOSS])


def felt_rate(workload: TrainingWorkload, change: float) -> float:
    """Return the learning rate at which the first step changes the loss by a share of it, about.

    By the gradient g, a step without momentum takes ``rate * |g|**2`` off the loss. At such a rate
    the losses of two programs can be compared: at a larger one rounding grows, and after a single
    step of 0.01 a new ResNet-50 has lost the second digit in whatever computes in float32.
    """
    program = _program(workload, _UNCLIPPED)
    try:
        values = program.step({**_inputs(workload), RATES[0]: 0.0})
    finally:
        program.close()
    norm, clip = float(values[GRADIENT_NORM]), workload.settings.clip
    taken = norm * (norm if clip is None else min(norm, clip))
    return change * float(values[LOSS]) / taken if taken else 0.0


def _program(workload: TrainingWorkload, clip: float | None) -> TrainingProgram:
    from lushan.cpu import executor

    settings = workload.settings
    graph = training_step(
        workload.graph, frozen=settings.freeze, label_smoothing=settings.label_smoothing, clip=clip
    )
    state = training_state(graph, workload.weights)
    return TrainingProgram(graph, state, executor.compile, threads=workload.threads)


def _inputs(workload: TrainingWorkload) -> dict[str, Array | float]:
    targets = one_hot(workload.labels, workload.classes)
    return {workload.graph.inputs[0].name: workload.x, TARGETS: targets, **workload.rates}


class PyTorch:
    """PyTorch: either order of memory, and either of its two ways to update many tensors at once.

    ``fused`` is one native loop over all of a parameter, ``foreach`` a call for each operation on
    all parameters.
    """

    name = "pytorch"
    settings = (
        "channels_last, fused",
        "channels_last, foreach",
        "contiguous, fused",
        "contiguous, foreach",
    )

    def available(self) -> str | None:
        """See ``TrainingPeer``."""
        return version_of("torch")

    def prepare(self, workload: TrainingWorkload, setting: str) -> Step:
        """See ``TrainingPeer``."""
        import torch

        torch.set_num_threads(workload.threads)
        order, implementation = setting.split(", ")
        memory_format = torch.channels_last if order == "channels_last" else torch.contiguous_format
        settings = workload.settings
        training = TorchTraining(
            workload.graph,
            workload.weights,
            memory_format=memory_format,
            frozen=settings.freeze,
            clip=settings.clip,
            label_smoothing=settings.label_smoothing,
            **{implementation: True},
        )
        x, rates = to_tensor(workload.x, memory_format), workload.rates
        labels = torch.from_numpy(workload.labels.astype(np.int64))
        return lambda: training.step(x, labels, **rates)


TRAINING_PEERS: tuple[TrainingPeer, ...] = (PyTorch(),)
