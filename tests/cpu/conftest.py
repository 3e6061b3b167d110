"""Every test that takes ``target`` runs once for each instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.cpu import executor
from lushan.cpu.target import Target
from support.native_tasks import targets


@pytest.fixture(scope="session", params=list(targets()), ids=lambda target: target.level)
def target(request: pytest.FixtureRequest) -> Target:
    """Return each instruction set that this machine has, or can pretend to have."""
    found: Target = request.param
    return found


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the arena and the scratch memory of every run with NaN: nothing stale is ever read."""
    borrow = executor.CpuProgram._borrow

    def poisoned(program: executor.CpuProgram, size: int) -> np.ndarray:
        arena = borrow(program, size)
        arena[:] = 255
        return arena

    monkeypatch.setattr(executor.CpuProgram, "_borrow", poisoned)
