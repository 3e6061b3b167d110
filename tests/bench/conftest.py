"""A small recognizer, and turns as short as can be: what is measured is not tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lushan
from lushan.bench import turns


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make turns as short as they can be."""
    monkeypatch.setattr(turns, "REST_SECONDS", 0)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)


@pytest.fixture
def recognizer(model_folder: Path) -> Iterator[lushan.Recognizer]:
    with lushan.load(model_folder, engine="reference") as loaded:
        yield loaded
