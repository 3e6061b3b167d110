"""A small data set that can be learnt in seconds: noisy colours, one class each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}

# A network of 5,443 parameters and a run of three epochs, as a file of settings has them.
SETTINGS: dict[str, Any] = {
    "model": "resnet",
    "model_args": {
        "block": "basic",
        "depths": [1, 1],
        "widths": [8, 16],
        "stem_channels": 8,
        "stem_kernel": 3,
        "stem_stride": 1,
        "stem_pooling": "none",
    },
    "size": 12,
    "batch": 8,
    "epochs": 3,
    "learning_rate": 0.05,
    "preprocessing": {"crop_pct": 1.0},
    "val_fraction": 0.2,
}


def write_pictures(root: Path, each: int = 10, *, size: int = 16, seed: int = 0) -> Path:
    """Write ``each`` pictures of every colour to ``root/<colour>`` and return ``root``."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(each):
            noise = random.normal(0, 60, (size, size, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03}.png")
    return root
