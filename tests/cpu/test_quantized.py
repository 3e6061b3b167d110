"""Operators on bytes against their meaning: the same bits, whatever the shape and the processor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor
from lushan.cpu.byte_arithmetic import has_vnni
from lushan.cpu.quantized_convolution import QuantizedConvolutionKernel
from lushan.cpu.sliding import Geometry, padded_edges, sliding
from lushan.cpu.target import Target
from lushan.cpu.task import Plane
from lushan.graph import interpret
from lushan.graph.ir import Graph
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from lushan.record import replace
from support.native_tasks import targets
from support.quantized import BytesGraph, quantized

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
    graph = BytesGraph(random, ic, whole=data.draw(st.booleans()))
    if data.draw(st.booleans()):  # padding adds nothing: its rows are skipped
        graph.weights["x.zero"] = np.asarray(F(0))
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


@pytest.mark.parametrize(
    ("width", "stride", "padding", "found"),
    [
        (7, 1, (1, 1), (16, 16)),
        (14, 1, (1, 1), (16, 16)),
        (7, 2, (1, 1), (16, 0)),  # the last window ends with the input
        (7, 1, (0, 1), (0, 16)),
        (7, 1, (2, 2), (0, 0)),
        (56, 1, (1, 1), (0, 0)),  # it would not pay
    ],
)
def test_where_padding_is_left_out(
    width: int, stride: int, padding: tuple[int, int], found: tuple[int, int]
) -> None:
    wide = [target for target in targets() if target.level == "avx512" and has_vnni(target)]
    if not wide:
        pytest.skip("the tiles are those of AVX-512")
    pixels = stride * width if stride > 1 else width + 2 - sum(padding)
    x = Plane("x", (1, 7, pixels, 64), (1, 1, *padding), 1)
    y = Plane("y", (1, 7, width, 64), itemsize=1)
    geometry = Geometry((1, stride), (1, 1, *padding), (1, 1))
    fields = sliding(x, y, geometry, (3, 3), 1, 2, wide[0])
    kernel = QuantizedConvolutionKernel(**fields, residual=False, prefetch=False)
    assert padded_edges(kernel, x, y, geometry, 3, wide[0]) == found


@every_way
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [(1, 1), (1, 0), (0, 1), (2, 2), (0, 2)])
def test_padding_at_the_ends_of_a_row(
    target: Target, padding: tuple[int, int], stride: int
) -> None:
    """Rows of one to five tiles, with and without a rest, and runs of few and of many terms."""
    random = np.random.default_rng(stride)
    for width, ic, oc in [
        (7, 32, 40),
        (8, 64, 32),
        (14, 4, 16),
        (15, 36, 32),
        (28, 16, 32),
        (35, 8, 70),
    ]:
        graph = BytesGraph(random, ic, whole=True)
        graph.weights["x.zero"] = np.asarray(F(0))
        inputs = [graph.x, graph.x_numbers[1], *graph.layer("c", (oc, 3, 3, ic), 9 * ic)]
        y = graph.builder.node(
            "quantized_convolution",
            (*inputs, *graph.numbers("y")),
            "y",
            stride=(1, stride),
            padding=(1, 1, *padding),
            dilation=(1, 1),
            groups=1,
            activation="relu",
        )
        x = (random.standard_normal((2, 3, stride * width, ic)) * 100).astype(F)
        check(graph.builder.build(y), graph.weights, x, target)


@every_way
@pytest.mark.parametrize("channels", [1, 3, 16, 50, 64, 76, 130, 276])
def test_everything_else(target: Target, channels: int) -> None:
    """Quantising each channel apart, pooling, the shortcut of zeros, means and scores."""
    random = np.random.default_rng(channels)
    graph = BytesGraph(random, channels)
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
    graph = BytesGraph(np.random.default_rng(0), 1)
    graph.weights["x.scale"] = np.asarray(F(1))
    graph.weights["x.zero"] = np.asarray(F(3))
    odd = [np.inf, -np.inf, np.nan, 3e38, -3e38, 2.0**31, 2.0**32, 252.5, 251.5, -2.5, -3.5, 0.5]
    x = np.array(odd * 3, F).reshape(1, 1, -1, 1)
    y = graph.builder.node("dequantize", (graph.x, *graph.x_numbers), "y")
    check(graph.builder.build(y), graph.weights, x, target)


@cache
def network(name: str, size: int) -> tuple[Graph, dict[str, Any], Any, Any]:
    """Return a network on bytes, its weights, three pictures and the reference's scores."""
    graph = build(ARCHITECTURES[name])
    x = np.random.default_rng(1).standard_normal((3, size, size, 3)).astype(F)
    graph, lazy = quantized(graph, initial_weights(graph, seed=0), x[:1])
    weights = {key: lazy[key] for key in lazy}  # quantised once, not at each reading
    return graph, weights, x, interpret.compile(graph, weights)({INPUT: x})[graph.outputs[0]]


@every_way
@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("resnet50", 96), ("resnet20_cifar", 32)]
)
def test_whole_networks(target: Target, name: str, size: int) -> None:
    """Scores have the reference's bits: alone and in a batch, on one thread and on three."""
    graph, weights, x, exact = network(name, size)
    output = graph.outputs[0]
    for threads in (1, 3):
        program = executor.compile(graph, weights, threads=threads, target=target)
        np.testing.assert_array_equal(program({INPUT: x})[output], exact)
        alone = [program({INPUT: x[i : i + 1]})[output] for i in range(3)]
        np.testing.assert_array_equal(np.concatenate(alone), exact)


@every_way
def test_memory_before_a_run_does_not_matter(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halos hold the byte that stands for 0, whatever lay there; nothing else is read unwritten."""
    graph, weights, x, exact = network("resnet20_cifar", 32)
    program = executor.compile(graph, weights, threads=2, target=target)
    borrow = executor.CpuProgram._borrow
    for byte in (0, 255, 127):

        def filled(self: executor.CpuProgram, size: int, byte: int = byte) -> Any:
            arena = borrow(self, size)
            arena[:] = byte
            return arena

        monkeypatch.setattr(executor.CpuProgram, "_borrow", filled)
        np.testing.assert_array_equal(program({INPUT: x})[graph.outputs[0]], exact)


def test_pictures_that_are_only_quantised_are_not_copied() -> None:
    graph, weights, x, exact = network("resnet20_cifar", 32)
    program = executor.compile(graph, weights, threads=1)
    before = x.copy()
    assert INPUT not in dict(program.profile({INPUT: x}))  # no step for it
    np.testing.assert_array_equal(program({INPUT: x})[graph.outputs[0]], exact)
    np.testing.assert_array_equal(x, before)
    kept = executor.compile(graph, weights, threads=1, keep=[INPUT])
    np.testing.assert_array_equal(kept({INPUT: x})[INPUT], x)
