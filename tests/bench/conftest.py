"""A small recognizer, and turns as short as can be: what is measured is not tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lushan
from lushan.bench import infer, rivals, train, turns
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model

SPENT = {"peak": 1.0, "lushan": 0.004, "slow": 0.008, "quick": 0.002, "coarse": 0.001}


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make turns as short as they can be."""
    monkeypatch.setattr(turns, "REST_SECONDS", 0)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every contestant take the time that ``SPENT`` says, its settings ever less of it."""

    def take_turns(
        contestants: Mapping[str, Callable[[], Any]], rounds: int, **_: Any
    ) -> dict[str, list[float]]:
        for call in contestants.values():
            call()
        times = {name: SPENT.get(name, 1 / len(name)) for name in contestants}
        return {name: [3 * t, t / 2, t] for name, t in times.items()}

    for module in (infer, rivals, train):
        monkeypatch.setattr(module, "take_turns", take_turns)


@pytest.fixture
def recognizer(model_folder: Path) -> Iterator[lushan.Recognizer]:
    with lushan.load(model_folder, engine="reference") as loaded:
        yield loaded


@pytest.fixture
def quantized(recognizer: lushan.Recognizer) -> Iterator[lushan.Recognizer]:
    """The same model on bytes."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    model = recognizer.model
    found = calibrate(model, pictures, engine="reference")
    with lushan.Recognizer(quantize_model(model, found, "minmax"), engine="reference") as loaded:
        yield loaded
