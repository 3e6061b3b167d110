"""A runtime that is none, to test what the benchmarks make of the answers of others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lushan.bench.peers import Call, Workload
from lushan.graph import interpret


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
