"""What the rules of lowering share: weights that several layers read, each in its own way."""

from __future__ import annotations

from typing import Any

import numpy as np

from lushan.cpu import executor
from lushan.cpu.target import Target
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from support.compare import relative_error
from support.random_graphs import random_weights

PLAIN: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1)}
CHANNELS = (("x", 4), ("y", 2))
RANDOM = np.random.default_rng(0)


def test_one_weight_in_one_group_and_in_two(target: Target) -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 4))
    shared = builder.parameter("weight", (6, 3, 3, 2)), builder.parameter("bias", (6,))
    narrow = builder.convolution(x, "narrow", 2, kernel=1)
    graph = builder.build(
        builder.node("convolution", (x, *shared), "two", groups=2, **PLAIN),
        builder.node("convolution", (narrow, *shared), "one", groups=1, **PLAIN),
    )
    weights = random_weights(graph, seed=1)
    inputs = {"x": RANDOM.standard_normal((2, 5, 6, 4)).astype(np.float32)}
    expected = interpret.compile(graph, weights)(inputs)
    actual = executor.compile(graph, weights, threads=1, target=target)(inputs)
    for name, value in expected.items():
        assert relative_error(actual[name], value) <= 1e-5, name


def test_one_weight_of_bytes_in_groups_and_dilated(target: Target) -> None:
    """Groups share out the channels, and a dilated window has no runs of neighbours."""
    weights = {
        "scale": np.asarray(0.02, np.float32),
        "zero": np.asarray(128, np.float32),
        "weight": RANDOM.integers(-127, 128, (6, 3, 3, 2)).astype(np.int8),
        "weight_scale": np.full(6, 1e-3, np.float32),
        "bias": RANDOM.standard_normal(6).astype(np.float32),
    }
    builder = GraphBuilder()
    wide, narrow = (builder.input(name, (None, None, None, c)) for name, c in CHANNELS)
    for name, array in weights.items():
        builder.parameter(name, array.shape, str(array.dtype))
    x, y = (builder.node("quantize", (v, "scale", "zero"), f"{v}8") for v in (wide, narrow))
    dilated = {**PLAIN, "dilation": (1, 2)}
    outputs = [
        builder.node(
            "quantized_convolution",
            (value, "zero", "weight", "weight_scale", "bias"),
            name,
            groups=groups,
            activation="none",
            **options,
        )
        for name, value, groups, options in (
            ("two", x, 2, PLAIN),
            ("one", y, 1, PLAIN),
            ("dilated", y, 1, dilated),
        )
    ]
    graph = builder.build(*outputs)
    inputs = {n: RANDOM.standard_normal((2, 5, 7, c)).astype(np.float32) for n, c in CHANNELS}
    expected = interpret.compile(graph, weights)(inputs)
    actual = executor.compile(graph, weights, threads=1, target=target)(inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, name)
