"""A runtime that is none, to test what the benchmarks make of the answers of others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lushan.bench.peers import Call, Workload
from lushan.bench.training_peers import Step, TrainingWorkload
from lushan.graph import interpret
from lushan.graph.training import TrainingProgram, one_hot, training_state, training_step


@dataclass
class FakePeer:
    """Answers with our scores times ``factor``, in each of ``settings``."""

    name: str = "fake"
    precision: str = "float32"
    takes_int8: bool = True
    version: str | None = "1.2"
    factor: float = 1.0
    settings: tuple[str, ...] = ("default",)
    failure: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def available(self) -> str | None:
        return self.version

    def prepare(self, workload: Workload) -> dict[str, Call]:
        if self.failure is not None:
            raise self.failure
        program = interpret.compile(workload.graph, workload.weights)
        [output] = workload.graph.outputs

        def make(setting: str) -> Call:
            def call() -> np.ndarray:
                self.calls.append(setting)
                return np.float32(self.factor) * program({"input": workload.x})[output]

            return call

        return {setting: make(setting) for setting in self.settings}


@dataclass
class FakeTrainingPeer:
    """Trains by the reference engine; its losses are ours times ``factor``.

    ``learns`` False leaves the weights as they are: only the first loss is right.
    """

    name: str = "fake"
    version: str | None = "1.2"
    factor: float = 1.0
    learns: bool = True
    settings: tuple[str, ...] = ("default",)
    failure: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def available(self) -> str | None:
        return self.version

    def prepare(self, workload: TrainingWorkload, setting: str) -> Step:
        if self.failure is not None:
            raise self.failure
        smoothing = workload.settings.label_smoothing
        graph = training_step(workload.graph, label_smoothing=smoothing)
        state = training_state(graph, workload.weights)
        program = TrainingProgram(graph, state, interpret.compile)
        rates = workload.rates if self.learns else dict.fromkeys(workload.rates, 0.0)
        targets = one_hot(workload.labels, workload.classes)
        inputs = {"input": workload.x, "targets": targets, **rates}

        def step() -> float:
            self.calls.append(setting)
            return self.factor * float(program.step(inputs)["loss"])

        return step
