"""Operators on bytes against their meaning: the same bits, whatever the shape and the processor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor
from lushan.cpu.byte_arithmetic import has_vnni
from lushan.cpu.target import Target
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from support.native_tasks import targets
from support.quantized import draw_parameters, quantized

F = np.float32


def each_way() -> Iterator[Target]:
    """Yield every instruction set of this machine, with and without its product of bytes."""
    for target in targets():
        yield target
        if has_vnni(target):
            words = [word for word in target.features.split(",") if not word.endswith("vnni")]
            yield replace(target, features=",".join(words))


every_way = pytest.mark.parametrize(
    "target", list(each_way()), ids=lambda t: t.level + ("-vnni" if has_vnni(t) else "")
)


def check(graph: Graph, weights: dict[str, Any], x: Any, target: Target) -> None:
    """Compare every value of a graph, bit for bit."""
    keep = [name for node in graph.nodes for name in node.outputs]
    exact = interpret.compile(graph, weights, keep=keep)({"x": x})
    ours = executor.compile(graph, weights, keep=keep, threads=2, target=target)({"x": x})
    for name, values in exact.items():
        assert ours[name].dtype == values.dtype
        np.testing.assert_array_equal(ours[name], values, name)


class Bytes:
    """Builds a graph on bytes: its picture is float32 and quantised first."""

    def __init__(self, random: np.random.Generator, channels: int, *, whole: bool = True) -> None:
        self.random = random
        self.builder = GraphBuilder()
        self.weights: dict[str, Any] = {}
        self.channels = channels
        x = self.builder.input("x", (None, None, None, channels))
        self.x_numbers = self.numbers("x", whole=whole)
        self.x = self.builder.node("quantize", (x, *self.x_numbers), "x8")

    def numbers(self, name: str, *, whole: bool = True) -> tuple[str, str]:
        """Return the names of a scale and a zero point."""
        return tuple(
            self.parameter(f"{name}.{what}", array)
            for what, array in zip(
                ("scale", "zero"), draw_parameters(self.random, whole=whole), strict=True
            )
        )

    def parameter(self, name: str, array: Any) -> str:
        """Give the graph a parameter with these numbers."""
        self.weights[name] = array
        dtype = str(array.dtype)
        return self.builder.parameter(name, array.shape, dtype)

    def layer(self, name: str, weight_shape: tuple[int, ...], terms: int) -> list[str]:
        """Return the names of a weight, its scale and a bias, such that sums become bytes."""
        random, oc = self.random, weight_shape[0]
        weight = random.integers(-128, 128, weight_shape).astype(np.int8)
        scale = np.exp(random.normal(size=oc)) / (100 * np.sqrt(terms))
        numbers = (weight, scale.astype(F), random.normal(size=oc).astype(F))
        return [
            self.parameter(f"{name}.{what}", array)
            for what, array in zip(("weight", "weight_scale", "bias"), numbers, strict=True)
        ]


@every_way
@settings(max_examples=12)
@given(data=st.data())
def test_convolution(target: Target, data: st.DataObject) -> None:
    def draw(*choices: int) -> int:
        return data.draw(st.sampled_from(choices))

    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    groups = draw(1, 1, 1, 2, 3)
    ic = groups * draw(1, 2, 3, 4, 5, 16, 33)
    oc = groups * draw(1, 3, 16, 17, 32, 40, 70)
    kh, kw = draw(1, 2, 3), draw(1, 3, 7)
    options = {
        "stride": (draw(1, 2), draw(1, 2, 3)),
        "padding": tuple(draw(0, 1, 3) for _ in range(4)),
        "dilation": (draw(1, 2), draw(1, 1, 2)),
        "groups": groups,
        "activation": data.draw(st.sampled_from(["none", "relu"])),
    }
    graph = Bytes(random, ic, whole=data.draw(st.booleans()))
    layer = graph.layer("c", (oc, kh, kw, ic // groups), kh * kw * ic // groups)
    inputs = [graph.x, graph.x_numbers[1], *layer]
    shape = (draw(1, 2), draw(14, 15), draw(20, 29), ic)
    if data.draw(st.booleans()):  # a shortcut of the shape of the output
        first = {**options, "activation": "none"}
        other = graph.builder.node(
            "quantized_convolution", (*inputs, *graph.numbers("s")), "s", **first
        )
        inputs += [other, "s.scale", "s.zero"]
    if data.draw(st.booleans()):
        inputs += graph.numbers("y")
    y = graph.builder.node("quantized_convolution", tuple(inputs), "y", **options)
    x = (random.standard_normal(shape) * 100).astype(F)
    check(graph.builder.build(y), graph.weights, x, target)


@every_way
@pytest.mark.parametrize("channels", [1, 3, 16, 50, 64, 130])
def test_everything_else(target: Target, channels: int) -> None:
    """Quantising each channel apart, pooling, the shortcut of zeros, means and scores."""
    random = np.random.default_rng(channels)
    graph = Bytes(random, channels)
    b = graph.builder
    scale = graph.parameter("each.scale", np.exp(random.normal(size=channels)).astype(F))
    zero = graph.parameter("each.zero", random.uniform(0, 255, channels).astype(F))
    b.node("quantize", ("x", scale, zero), "each")
    pooling: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0, 1, 1)}
    pooled = b.node("quantized_max_pooling", (graph.x,), "pooled", **pooling)
    more = b.node(
        "quantized_zero_padding_shortcut",
        (pooled, graph.x_numbers[1]),
        "more",
        stride=2,
        channels=channels + 5,
    )
    b.node("dequantize", (more, *graph.x_numbers), "floats")
    mean = b.node(
        "quantized_global_average_pooling", (more, *graph.x_numbers, *graph.numbers("m")), "mean"
    )
    layer = graph.layer("fc", (11, channels + 5), channels + 5)
    scores = b.node("quantized_linear", (mean, "m.zero", *layer), "scores")
    x = (random.standard_normal((3, 13, 17, channels)) * 50).astype(F)
    check(b.build(scores), graph.weights, x, target)


@every_way
def test_numbers_out_of_range(target: Target) -> None:
    """Infinite numbers and NaN become bytes as the reference says; halves go to even."""
    graph = Bytes(np.random.default_rng(0), 1)
    graph.weights["x.scale"] = np.asarray(F(1))
    graph.weights["x.zero"] = np.asarray(F(3))
    odd = [np.inf, -np.inf, np.nan, 3e38, -3e38, 2.0**31, 2.0**32, 252.5, 251.5, -2.5, -3.5, 0.5]
    x = np.array(odd * 3, F).reshape(1, 1, -1, 1)
    y = graph.builder.node("dequantize", (graph.x, *graph.x_numbers), "y")
    check(graph.builder.build(y), graph.weights, x, target)


@every_way
@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("resnet50", 96), ("resnet20_cifar", 32)]
)
def test_whole_networks(target: Target, name: str, size: int) -> None:
    """Scores have the reference's bits: alone and in a batch, on one thread and on three."""
    graph = build(ARCHITECTURES[name])
    x = np.random.default_rng(1).standard_normal((3, size, size, 3)).astype(F)
    graph, weights = quantized(graph, initial_weights(graph, seed=0), x[:1])
    exact = interpret.compile(graph, weights)({INPUT: x})
    output = graph.outputs[0]
    for threads in (1, 3):
        program = executor.compile(graph, weights, threads=threads, target=target)
        np.testing.assert_array_equal(program({INPUT: x})[output], exact[output])
        alone = [program({INPUT: x[i : i + 1]})[output] for i in range(3)]
        np.testing.assert_array_equal(np.concatenate(alone), exact[output])
