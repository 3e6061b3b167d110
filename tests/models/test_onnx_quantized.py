"""Quantised graphs elsewhere: ONNX Runtime computes the same network from the QDQ model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lushan import passes
from lushan.errors import GraphError
from lushan.graph import interpret
from lushan.graph.ir import Graph
from lushan.models.initialize import initial_weights
from lushan.models.onnx_export import to_onnx
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from lushan.passes.quantize import quantized_values
from lushan.reference.quantization import QuantizationParameters, range_parameters
from support.compare import relative_error
from support.onnx_oracle import run_with_onnxruntime
from support.quantized import BytesGraph
from support.small_models import NETWORK

F = np.float32
ONE_BY_ONE: dict[str, Any] = {
    "stride": (1, 1),
    "padding": (0, 0, 0, 0),
    "dilation": (1, 1),
    "groups": 1,
}
LEAKY = replace(NETWORK, activation="leaky_relu", shortcut="zero_padding", stem_pooling="average")


def network(described: ResNet, size: int, count: int = 2) -> tuple[Graph, Any, Any]:
    """Return a network on bytes whose input is pixels, its weights, and normalised pictures."""
    graph = build(described)
    weights = initial_weights(graph, seed=0)
    pixels = np.random.default_rng(1).integers(0, 256, (count, size, size, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((pixels / 255 - mean) / std).astype(F)
    plain, plain_weights = passes.apply(graph, weights)
    names = quantized_values(plain)
    values = interpret.compile(plain, plain_weights, keep=names)({INPUT: x})
    ranges = {name: range_parameters(values[name].min(), values[name].max()) for name in names}
    ranges[INPUT] = QuantizationParameters((1 / (255 * std)).astype(F), (255 * mean).astype(F))
    graph, lazy = passes.apply_and_quantize(graph, weights, ranges)
    return graph, {name: lazy[name] for name in lazy}, x


@pytest.mark.parametrize(
    ("described", "size"),
    [(ARCHITECTURES["resnet20_cifar"], 32), (ARCHITECTURES["resnet50"], 64), (LEAKY, 16)],
    ids=["resnet20_cifar", "resnet50", "leaky"],
)
@pytest.mark.parametrize("rounded", [False, True])
def test_networks(described: ResNet, size: int, rounded: bool) -> None:
    graph, weights, x = network(described, size)
    exact = interpret.compile(graph, weights)({INPUT: x})
    [theirs] = run_with_onnxruntime(graph, weights, {INPUT: x}, round_before_sums=rounded).values()
    # The rounding of sums is the larger error; a wrong padding or a lost bias makes 0.1 and more.
    assert relative_error(theirs, exact[graph.outputs[0]]) < (0.04 if rounded else 0.02)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("ends", ["", "s", "y", "sy"])
def test_convolutions(ends: str, groups: int) -> None:
    """Padding of bytes and of pixels, groups, shortcuts, ReLU, bytes and float32 as outputs."""
    random = np.random.default_rng(len(ends) + groups)
    for whole in (True, False):
        graph = BytesGraph(random, 6, whole=whole)
        graph.weights["x.scale"] = np.asarray(F(0.02))
        layer = graph.layer("c", (9, 3, 2, 6 // groups), 36 // groups)
        options: dict[str, Any] = {
            "stride": (1, 2), "padding": (1, 0, 2, 1), "dilation": (1, 1), "groups": groups,
        }  # fmt: skip
        inputs = [graph.x, graph.x_numbers[1], *layer]
        node = graph.builder.node
        if "s" in ends:
            numbers = graph.numbers("s")
            node("quantized_convolution", (*inputs, *numbers), "s", activation="none", **options)
            inputs += ["s", *numbers]
        inputs += graph.numbers("y") if "y" in ends else []
        y = node("quantized_convolution", tuple(inputs), "y", activation="relu", **options)
        compare(graph, graph.builder.build(y), (2, 7, 9, 6))


@pytest.mark.parametrize("whole", [True, False])
def test_everything_else(whole: bool) -> None:
    """Pooling, the shortcut of zeros, means, scores; pixels and bytes as float32 and as outputs."""
    random = np.random.default_rng(3)
    graph = BytesGraph(random, 5, whole=whole)
    b = graph.builder
    window: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0, 1, 1)}
    pooled = b.node("quantized_max_pooling", (graph.x,), "pooled", **window)
    floats = b.node("dequantize", (pooled, *graph.x_numbers), "floats")
    y = graph.x_numbers if whole else graph.numbers("y")
    start = pooled if whole else b.node("quantize", (floats, *y), "again")
    more = b.node("quantized_zero_padding_shortcut", (start, y[1]), "more", stride=2, channels=9)
    mean = b.node("quantized_global_average_pooling", (more, *y, *graph.numbers("m")), "mean")
    layer = graph.layer("fc", (4, 9), 9)
    scores = b.node("quantized_linear", (mean, "m.zero", *layer), "scores")
    outputs = [graph.x, pooled, floats, more, mean, scores]
    compare(graph, b.build(*outputs), (2, 9, 8, 5))


def compare(built: BytesGraph, graph: Graph, shape: tuple[int, ...]) -> None:
    """Run a graph here and there: what is bytes may differ by one, here and there."""
    x = (np.random.default_rng(4).standard_normal(shape) * 2).astype(F)
    ours = interpret.compile(graph, built.weights)({"x": x})
    theirs = run_with_onnxruntime(graph, built.weights, {"x": x})
    for name, exact in ours.items():
        if exact.dtype == np.uint8:
            apart = np.abs(exact.astype(int) - theirs[name])
            assert apart.max() <= 1, name
            assert (apart > 0).mean() < 0.02, name
        else:
            assert relative_error(theirs[name], exact) < 0.02, name


def test_channels_without_weights_keep_their_bias() -> None:
    """Also those whose weights are so small beside their bias that it would be no 32-bit number."""
    graph = BytesGraph(np.random.default_rng(0), 2)
    names = graph.layer("c", (3, 1, 1, 2), 2)
    weight, scale, bias = (graph.weights[name] for name in names)
    weight[0], scale[:2], bias[:] = 0, (1, 1e-30), (0.3, -0.4, 0.5)
    y = graph.builder.node(
        "quantized_convolution",
        (graph.x, graph.x_numbers[1], *names),
        "y",
        activation="none",
        **ONE_BY_ONE,
    )
    x = np.random.default_rng(1).standard_normal((1, 3, 3, 2), F)
    theirs = run_with_onnxruntime(graph.builder.build(y), graph.weights, {"x": x})["y"]
    np.testing.assert_allclose(theirs[..., 0], 0.3, rtol=1e-6)
    np.testing.assert_allclose(theirs[..., 1], -0.4, rtol=1e-6)


def test_sums_are_rounded_only_where_they_are_asked_to_be() -> None:
    graph, weights, _ = network(NETWORK, 16)
    counts = [
        sum(node.op_type == "QuantizeLinear" for node in to_onnx(graph, weights, **how).graph.node)
        for how in ({}, {"round_before_sums": True})
    ]
    blocks = sum(node.op_type == "Add" for node in to_onnx(graph, weights).graph.node) - 1
    assert blocks == len(NETWORK.depths)  # one more makes pixels of the picture
    assert counts[1] == counts[0] + blocks


def test_what_pixels_cannot_go_through_is_named() -> None:
    for operator in ("quantized_convolution", "quantized_zero_padding_shortcut"):
        graph = BytesGraph(np.random.default_rng(0), 2, whole=False)
        b, zero = graph.builder, graph.x_numbers[1]
        window: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
        pooled = b.node("quantized_max_pooling", (graph.x,), "pooled", **window)
        if operator == "quantized_convolution":
            layer = graph.layer("c", (3, 1, 1, 2), 2)
            y = b.node(operator, (pooled, zero, *layer), "y", activation="none", **ONE_BY_ONE)
        else:
            y = b.node(operator, (pooled, zero), "y", stride=1, channels=4)
        with pytest.raises(GraphError, match=rf"'y' .* {operator} of such pixels has no equal"):
            to_onnx(b.build(y), graph.weights)
