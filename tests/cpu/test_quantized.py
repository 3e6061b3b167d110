"""Kernels on bytes: equal to ``reference`` to the last bit, on every instruction set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor
from lushan.cpu.target import Target, detect
from lushan.errors import UsageError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from support.quantized import quantized
from support.random_graphs import Case, cases, random_weights

small = st.integers(1, 3)


def variants(target: Target) -> list[Target]:
    """Return ``target``, and what it would be without its instruction for four products."""
    if not target.has_vnni:
        return [target]
    features = [word for word in target.features.split(",") if "vnni" not in word]
    return [target, replace(target, features=",".join([*features, "-avx512vnni"]))]


class Builder(GraphBuilder):
    """Builds graphs on bytes whose weights are drawn at once."""

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__()
        self.random = random
        self.weights: dict[str, np.ndarray] = {}

    def add(self, name: str, array: Any, dtype: str = "float32") -> str:
        array = np.asarray(array, dtype)
        self.weights[name] = array
        return self.parameter(name, array.shape, dtype)

    def numbers(self, name: str, shape: tuple[int, ...] = (), *, whole: bool = True) -> list[str]:
        """Add a scale and a zero point."""
        zero = self.random.uniform(0, 255, shape)
        scale = np.exp(self.random.normal(0, 0.5, shape))
        return [
            self.add(f"{name}.scale", scale),
            self.add(f"{name}.zero_point", np.rint(zero) if whole else zero),
        ]


def run(target: Target, graph: Graph, weights: Mapping[str, Any], x: np.ndarray) -> None:
    """Run a graph on an engine and on the reference, and compare everything bit for bit."""
    keep = [name for node in graph.nodes for name in node.outputs]
    expected = interpret.compile(graph, weights, keep=keep)({"input": x})
    for variant in variants(target):
        for threads in (1, 2):
            program = executor.compile(graph, weights, keep=keep, threads=threads, target=variant)
            results = program({"input": x})
            program.close()
            for name in keep:
                np.testing.assert_array_equal(results[name], expected[name], name, strict=True)


@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_convolutions(target: Target, data: st.DataObject, seed: int) -> None:
    draw = data.draw
    random = np.random.default_rng(seed)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    ic = groups * draw(st.sampled_from([1, 2, 3, 4, 5, 16]))
    oc = groups * draw(st.sampled_from([1, 3, 8, 16, 17, 32, 50, 64, 70]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    b = Builder(random)
    per_channel = (ic,) if draw(st.booleans()) else ()
    x = b.input("input", (None, None, None, ic))
    x = b.node("quantize", (x, *b.numbers("x", per_channel, whole=False)), "x")
    weight = random.integers(-128, 128, (oc, *kernel, ic // groups), dtype=np.int8)
    layer = [
        b.add("w", weight, "int8"),
        b.add("ws", np.exp(random.normal(-5, 1, oc))),
        b.add("b", random.normal(0, 10, oc)),
    ]
    options: dict[str, Any] = {
        "stride": (draw(small), draw(small)),
        "padding": tuple(draw(st.integers(0, 3)) for _ in range(4)),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "groups": groups,
    }
    ends: list[str] = []
    if draw(st.booleans()):  # the same layer once more, as the shortcut
        own = b.numbers("r")
        shortcut = b.node(
            "quantized_convolution", (x, "x.zero_point", *layer, *own), "r",
            activation="none", **options,
        )  # fmt: skip
        ends = [shortcut, *own]
    ends += b.numbers("y") if draw(st.booleans()) else []
    activation = draw(st.sampled_from(["none", "relu"]))
    b.node(
        "quantized_convolution", (x, "x.zero_point", *layer, *ends), "y",
        activation=activation, **options,
    )  # fmt: skip
    shape = (draw(small), draw(st.integers(7, 20)), draw(st.integers(7, 31)), ic)
    run(target, b.build("y"), b.weights, random.normal(0, 80, shape).astype(np.float32))


@given(data=st.data(), seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_everything_else(target: Target, data: st.DataObject, seed: int) -> None:
    draw = data.draw
    random = np.random.default_rng(seed)
    b = Builder(random)
    channels = draw(st.one_of(st.integers(1, 40), st.sampled_from([48, 64, 67, 130, 256])))
    x = b.input("input", (None, None, None, channels))
    numbers = b.numbers("x")
    b.node("quantize", (x, *numbers), "x")
    size = draw(small)
    window = {
        "kernel": (size, draw(st.integers(size, 3))),
        "stride": (draw(small), draw(small)),
        "padding": tuple(draw(st.integers(0, size - 1)) for _ in range(4)),
    }
    b.node("quantized_max_pooling", ("x",), "max", **window)
    wider = channels + draw(st.integers(0, 40))
    b.node(
        "quantized_zero_padding_shortcut", ("max", numbers[1]), "wide",
        stride=draw(small), channels=wider,
    )  # fmt: skip
    b.node("quantized_global_average_pooling", ("wide", *numbers, *b.numbers("mean")), "mean")
    classes = draw(st.sampled_from([1, 5, 16, 70]))
    weight = b.add("w", random.integers(-128, 128, (classes, wider), dtype=np.int8), "int8")
    scale, bias = b.add("ws", np.exp(random.normal(-5, 1, classes))), b.add("b", np.ones(classes))
    b.node("quantized_linear", ("mean", "mean.zero_point", weight, scale, bias), "fc")
    b.node("dequantize", ("wide", *numbers), "back")
    shape = (draw(small), draw(st.integers(5, 12)), draw(st.integers(5, 20)), channels)
    numbers_in = random.normal(0, 80, shape).astype(np.float32)
    numbers_in.flat[0] = np.inf
    run(target, b.build("fc", "back"), b.weights, numbers_in)


@given(case=cases())
@settings(max_examples=20)
def test_any_quantised_network(target: Target, case: Case) -> None:
    """Only where a float32 operator is in between may a step of a byte come out otherwise."""
    graph, weights = quantized(case.graph, case.weights, case.x)
    expected = interpret.compile(graph, weights)({"input": case.x})
    results = executor.compile(graph, weights, target=target)({"input": case.x})
    floats = {"sigmoid", "tanh", "prelu", "batch_norm", "average_pooling", "add", "leaky_relu"}
    inexact = floats & {node.operator for node in graph.nodes}
    for name, exact in expected.items():
        if inexact:
            step = 0.1 * float(np.abs(exact).max())
            np.testing.assert_allclose(results[name], exact, atol=step)
        else:
            np.testing.assert_array_equal(results[name], exact)


def test_long_sums_do_not_saturate(target: Target) -> None:
    """What vpmaddubsw and 16-bit sums lose: 255 · 127 · 2 does not fit 16 bits."""
    b = Builder(np.random.default_rng(0))
    x = b.input("input", (None, None, None, 512))
    one, zero = b.add("one", 1.0), b.add("zero", 0.0)
    b.node("quantize", (x, one, zero), "x")
    weight = np.full((32, 3, 3, 512), 127, np.int8)
    weight[1] = -128
    layer = [b.add("w", weight, "int8"), b.add("ws", np.ones(32)), b.add("b", np.zeros(32))]
    options = {"stride": (1, 1), "padding": (1,) * 4, "dilation": (1, 1), "groups": 1}
    b.node("quantized_convolution", ("x", zero, *layer), "y", activation="none", **options)
    picture = np.full((1, 7, 7, 512), 255, np.float32)
    graph = b.build("y")
    run(target, graph, b.weights, picture)
    y = executor.compile(graph, b.weights, target=target)({"input": picture})["y"]
    assert y[0, 3, 3, :2].tolist() == [float(4608 * 255 * 127), -float(4608 * 255 * 128)]


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet18", "resnet50"])
def test_networks_of_the_family(target: Target, name: str) -> None:
    graph = build(ARCHITECTURES[name])
    x = np.random.default_rng(2).standard_normal((2, 64, 96, 3), np.float32)
    weights = random_weights(graph, 3)
    rewritten, new = quantized(graph, weights, x)
    held = {name: np.asarray(array, order="C") for name, array in new.items()}
    expected = interpret.compile(rewritten, held)({"input": x})[graph.outputs[0]]
    for variant in variants(target):
        program = executor.compile(rewritten, held, target=variant)
        together = program({"input": x})[graph.outputs[0]]
        alone = [program({"input": x[i : i + 1]})[graph.outputs[0]][0] for i in range(2)]
        program.close()
        np.testing.assert_array_equal(together, expected, strict=True)
        np.testing.assert_array_equal(np.stack(alone), together, strict=True)


def test_levels_give_the_same_scores() -> None:
    """Unlike float32, whose sums differ in the last bits between instruction sets."""
    graph = build(ARCHITECTURES["resnet20_cifar"])
    x = np.random.default_rng(2).standard_normal((4, 32, 32, 3), np.float32)
    rewritten, new = quantized(graph, random_weights(graph, 3), x)
    scores = []
    for level in ("avx512", "avx2", "generic"):
        try:
            target = detect(level)
        except UsageError:
            continue
        scores.append(executor.compile(rewritten, new, target=target)({"input": x}))
    assert len({result[graph.outputs[0]].tobytes() for result in scores}) == 1
