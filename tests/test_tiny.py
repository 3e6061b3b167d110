"""Smoke: one picture through a small network, from bytes to a name. Seconds, no shared data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

import lushan


def test_one_picture_from_bytes_to_a_name(model_folder: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((50, 60, 3), 200, np.uint8)).save(buffer, "JPEG")
    with lushan.load(model_folder) as recognizer:
        best = recognizer.classify(buffer.getvalue(), top=1)[0]
    assert best.label in recognizer.labels.names
    assert best.description in ("tabby cat", "goldfish", "jeep")
    assert 1 / 3 <= best.probability <= 1
