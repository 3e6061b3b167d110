"""Initial weights: alive, repeatable, and of the size that keeps signals as they are."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build


def test_weights_are_he_normal_and_repeatable() -> None:
    graph = build(ARCHITECTURES["resnet18"])
    weights = initial_weights(graph, seed=7)
    again = initial_weights(graph, seed=7)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    other = initial_weights(graph, seed=8)
    assert not np.array_equal(weights["fc.weight"], other["fc.weight"])
    kernel = weights["layer3.0.conv2.weight"]  # [256, 3, 3, 256]: 2304 terms a sum
    assert kernel.std() == pytest.approx((2 / 2304) ** 0.5, rel=0.01)
    assert np.all(weights["layer1.0.bn1.running_var"] == 1)
    assert np.all(weights["fc.bias"] == 0)
    assert {name: array.shape for name, array in weights.items()} == {
        value.name: value.type.shape for value in graph.parameters
    }


def test_a_batch_norm_in_training_begins_alive() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 2))
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = tuple(builder.parameter(f"bn.{name}", (2,)) for name in names)
    builder.node(
        "batch_norm_training",
        (x, *parameters),
        "bn",
        more_outputs=("mean", "variance"),
        updates=parameters[2:],
        epsilon=1e-5,
        momentum=0.1,
    )
    builder.parameter("unused", (3,))
    graph = builder.build("bn")
    weights = initial_weights(graph, seed=0)
    assert [weights[name].tolist() for name in parameters] == [[1, 1], [0, 0], [0, 0], [1, 1]]
    assert weights["unused"].tolist() == [0, 0, 0]
    pixels = np.random.default_rng(0).standard_normal((2, 3, 3, 2), np.float32)
    assert interpret.compile(graph, weights)({"x": pixels})["bn"].std() == pytest.approx(
        1, rel=1e-3
    )


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (2, 2)])
def test_a_transposed_convolution_keeps_the_size_of_its_signal(stride: int, groups: int) -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 64))
    weight = builder.parameter("up.weight", (64, 4, 4, 32 // groups))
    builder.node(
        "transposed_convolution",
        (x, weight),
        "up",
        stride=(stride, stride),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=groups,
        output_padding=(0, 0),
    )
    graph = builder.build("up")
    weights = initial_weights(graph, seed=1)
    pixels = np.random.default_rng(0).standard_normal((1, 24, 24, 64), np.float32)
    y = interpret.compile(graph, weights)({"x": pixels})["up"][:, 6:-6, 6:-6]
    assert y.std() == pytest.approx(2**0.5, rel=0.1)  # He: ReLU will take half of the variance
