"""Small networks of every kind, and one picture inspected in each on both engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lushan.explain import Inspection
from lushan.graph import interpret
from lushan.models.resnet import ResNet
from lushan.recognizer import Recognizer, load
from support.small_models import write_small_model

# Odd sizes, so that strides leave something over; pooling whose windows overlap; projections.
BOTTLENECK = ResNet("bottleneck", (2, 1), (4, 6), stem_channels=8, stem_kernel=5, classes=3)
BASIC = replace(
    BOTTLENECK,
    block="basic",
    depths=(1, 1, 1),
    widths=(8, 10, 13),
    shortcut="zero_padding",
    stem_pooling="none",
    stem_stride=1,
    classifier="linear",
)
PLAIN = replace(BASIC, shortcut="none", batch_norm=False, stem_pooling="average")
NETWORKS = {
    "bottleneck": BOTTLENECK,
    "basic": BASIC,
    "plain": PLAIN,
    "leaky": replace(BOTTLENECK, activation="leaky_relu"),
    "prelu": replace(BOTTLENECK, activation="prelu"),
    "sigmoid": replace(BASIC, activation="sigmoid"),
    "tanh": replace(PLAIN, activation="tanh", stem_pooling="max"),
}
SIZE = (37, 42)


def exact_values(inspection: Inspection) -> dict[str, np.ndarray]:
    """Return every value of the network in float64, as the reference engine computes it."""
    model = inspection.model
    weights = {key: np.asarray(model.weights[key], np.float64) for key in model.weights}
    program = interpret.compile(model.graph, weights, keep=inspection.nodes)
    return program({"input": inspection.input.astype(np.float64)})


Inspect = Callable[..., Inspection]


@pytest.fixture(scope="session")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspect]:
    """Return a function from a name in NETWORKS, and an engine, to an inspection."""
    opened: list[Recognizer] = []

    @cache
    def folder(name: str) -> Path:
        config = {"input_size": [3, *SIZE], "interpolation": "bilinear", "crop_pct": 1.0}
        path = tmp_path_factory.mktemp("explained") / name
        return write_small_model(path, NETWORKS[name], pretrained_cfg=config)

    @cache
    def call(name: str, engine: str = "cpu") -> Inspection:
        recognizer = load(folder(name), engine=engine)
        opened.append(recognizer)
        pixels = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        return Inspection(recognizer, pixels)

    yield call
    for recognizer in opened:
        recognizer.close()
