"""Pictures, broken ones among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COUNT = 12


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a folder with twelve pictures in two folders, and three broken files among them."""
    folder = tmp_path / "archive"
    random = np.random.default_rng(8)
    for number in range(COUNT):
        path = folder / f"{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 33, 3), np.uint8)).save(path)
    (folder / "0" / "empty.jpg").touch()
    (folder / "1" / "text.jpg").write_text("not a picture")
    whole = (folder / "0" / "00.png").read_bytes()
    (folder / "1" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder
