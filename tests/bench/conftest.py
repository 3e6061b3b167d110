"""A small recognizer, and turns as short as can be: what is measured is not tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lushan
from lushan.bench import turns
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make turns as short as they can be."""
    monkeypatch.setattr(turns, "REST_SECONDS", 0)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)


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
