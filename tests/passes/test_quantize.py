"""Quantising: nearly the same numbers on bytes, the names that files rely on, nothing left over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from lushan import passes
from lushan.errors import GraphError, ModelError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.graph.printer import to_text
from lushan.graph.verify import infer_types
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import build
from lushan.passes.quantize import byte_parameters, quantized_values
from lushan.reference.quantization import QuantizationParameters, dequantize, range_parameters
from support.quantized import quantized, signal_to_noise
from support.random_graphs import Case, cases, random_weights

GOLDEN = """\
input input: float32[?, ?, ?, 4]
parameter input.scale: float32[]
parameter input.zero_point: float32[]
parameter conv.weight: int8[4, 3, 3, 4]
parameter conv.weight_scale: float32[4]
parameter conv.bias: float32[4]
parameter relu.scale: float32[]
parameter relu.zero_point: float32[]
parameter fc.weight: int8[5, 4]
parameter fc.weight_scale: float32[5]
parameter fc.bias: float32[5]
parameter pool.scale: float32[]
parameter pool.zero_point: float32[]
input.quantized = quantize(input, input.scale, input.zero_point): uint8[?, ?, ?, 4]
relu = quantized_convolution(input.quantized, input.zero_point, conv.weight, conv.weight_scale, \
conv.bias, input.quantized, input.scale, input.zero_point, relu.scale, relu.zero_point) \
activation='relu' dilation=(1,1) groups=1 padding=(1,1,1,1) stride=(1,1): uint8[?, ?, ?, 4]
max = quantized_max_pooling(relu) kernel=(2,2) padding=(0,0,0,0) stride=(2,2): uint8[?, ?, ?, 4]
pool = quantized_global_average_pooling(max, relu.scale, relu.zero_point, pool.scale, \
pool.zero_point): uint8[?, 4]
fc = quantized_linear(pool, pool.zero_point, fc.weight, fc.weight_scale, fc.bias): float32[?, 5]
max.dequantized = dequantize(max, relu.scale, relu.zero_point): float32[?, ?, ?, 4]
tanh = tanh(max.dequantized): float32[?, ?, ?, 4]
output fc, tanh
"""


def small_network() -> Graph:
    """Return a block whose end is read both as bytes and as float32."""
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 4))
    y = builder.batch_norm(builder.convolution(x, "conv", 4, kernel=3), "bn")
    y = builder.node("relu", (builder.node("add", (y, x), "add"),), "relu")
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    y = builder.node("max_pooling", (y,), "max", **window)
    fc = builder.linear(builder.node("global_average_pooling", (y,), "pool"), "fc", 5)
    return builder.build(fc, builder.node("tanh", (y,), "tanh"))


def picture(graph: Graph, seed: int = 0, size: int = 12) -> np.ndarray:
    channels = graph.inputs[0].type.shape[3]
    return np.random.default_rng(seed).standard_normal((3, size, size, channels), np.float32)


def test_golden_text() -> None:
    graph = small_network()
    rewritten, weights = quantized(graph, random_weights(graph, 0), picture(graph))
    text = to_text(rewritten)
    assert sorted(text.splitlines()) == sorted(GOLDEN.splitlines())
    assert weights.keys() == {value.name for value in rewritten.parameters}


@given(case=cases())
def test_any_network_gives_nearly_the_same_numbers(case: Case) -> None:
    rewritten, weights = quantized(case.graph, case.weights, case.x)
    before = interpret.compile(case.graph, case.weights)({"input": case.x})
    after = interpret.compile(rewritten, weights)({"input": case.x})
    assert before.keys() == after.keys()
    types = infer_types(rewritten)
    for name, exact in before.items():
        assert after[name].dtype == np.float32
        assert types[name].dtype == "float32"
        assert signal_to_noise(exact, after[name]) > 15, name
    operators = {node.operator for node in rewritten.nodes}
    assert not operators & {"convolution", "fused_convolution", "linear", "max_pooling"}


@given(case=cases())
def test_an_engine_may_apply_its_passes_again(case: Case) -> None:
    rewritten, weights = quantized(case.graph, case.weights, case.x)
    again, same = passes.apply(rewritten, weights)
    assert to_text(again) == to_text(rewritten)
    assert same.keys() == weights.keys()
    assert quantized_values(again) == ()


@pytest.mark.parametrize(
    "variation",
    [
        {},
        {"shortcut": "zero_padding"},
        {"activation": "leaky_relu"},
        {"activation": "prelu"},
        {"activation": "sigmoid"},
        {"stem_pooling": "average"},
        {"batch_norm": False},
        {"shortcut": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_kind_of_network_of_the_family(block: str, variation: dict[str, object]) -> None:
    network = ResNet.from_dict(
        {
            **ARCHITECTURES["resnet18"].to_dict(),
            "block": block,
            "depths": [1, 1],
            "widths": [8, 16],
            "stem_channels": 8,
            "classes": 6,
            **variation,
        }
    )
    graph = build(network)
    x = picture(graph, size=32)
    weights = random_weights(graph, 3)
    rewritten, new = quantized(graph, weights, x)
    bytes_ = {value.name for value in rewritten.parameters if value.type.dtype == "int8"}
    layers = {v.name for v in graph.parameters if len(v.type.shape) in (2, 4)}
    assert bytes_ == layers  # under the names that they have in float32
    exact = interpret.compile(graph, weights)({"input": x})[graph.outputs[0]]
    scores = interpret.compile(rewritten, new)({"input": x})[graph.outputs[0]]
    assert signal_to_noise(exact, scores) > 20


def test_values_that_are_bytes_stand_for_those_of_the_float_network() -> None:
    graph = build(ARCHITECTURES["resnet20_cifar"])
    weights, x = random_weights(graph, 1), picture(graph, size=32)
    rewritten, new = quantized(graph, weights, x)
    plain, plain_weights = passes.apply(graph, weights)
    parameters = byte_parameters(rewritten)
    names = [name for name in parameters if name != "input.quantized"]
    exact = interpret.compile(plain, plain_weights, keep=names)({"input": x})
    ours = interpret.compile(rewritten, new, keep=names)({"input": x})
    assert len(names) == 22  # 19 convolutions, 2 shortcuts, 1 average
    for name in names:
        scale, zero_point = (new[key] for key in parameters[name])
        assert ours[name].dtype == np.uint8
        assert signal_to_noise(exact[name], dequantize(ours[name], scale, zero_point)) > 18, name


def test_pixels_go_into_the_weights() -> None:
    """With a scale per channel the bytes of a picture are its pixels; the answer is the same."""
    graph = small_stem()
    weights = random_weights(graph, 0)
    std, mean = np.array([0.2, 0.3, 0.1], np.float32), np.array([0.5, 0.4, 0.45], np.float32)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    x = (pixels / np.float32(255) - mean) / std
    exact = interpret.compile(graph, weights)({"input": x})["relu"]
    of_y = range_parameters(0.0, exact.max())
    of_x = {
        "pixels": QuantizationParameters(1 / (255 * std), 255 * mean),
        "range": range_parameters(x.min(), x.max()),
    }
    quality = {}
    for name, given_x in of_x.items():
        rewritten, new = passes.apply_and_quantize(graph, weights, {"input": given_x, "relu": of_y})
        program = interpret.compile(rewritten, new, keep=["input.quantized"])
        results = program({"input": x})
        if name == "pixels":
            np.testing.assert_array_equal(results["input.quantized"], pixels)
        quality[name] = signal_to_noise(exact, results["relu"])
    assert quality["pixels"] > quality["range"] > 30


def small_stem() -> Graph:
    builder = GraphBuilder()
    x = builder.convolution(builder.input("input", (None, None, None, 3)), "conv", 8, kernel=3)
    return builder.build(builder.node("relu", (x,), "relu"))


def test_a_weight_with_several_readers_gets_a_name_for_each() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 2))
    y = builder.convolution(x, "first", 2, kernel=1)
    window = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    z = builder.node("convolution", (y, "first.weight"), "second", **window)
    extra = {"output_padding": (0, 0)}
    builder.node("transposed_convolution", (z, "first.weight"), "third", **window, **extra)
    graph = builder.build("third")
    weights, x = random_weights(graph, 2), picture(graph)
    rewritten, new = quantized(graph, weights, x)
    types = {value.name: value.type.dtype for value in rewritten.parameters}
    kept = {name: dtype for name, dtype in types.items() if name.endswith(".weight")}
    assert kept == {
        "first.quantized.weight": "int8",
        "second.weight": "int8",
        "first.weight": "float32",
    }
    exact = interpret.compile(graph, weights)({"input": x})["third"]
    ours = interpret.compile(rewritten, new)({"input": x})["third"]
    assert signal_to_noise(exact, ours) > 20


def test_what_cannot_be_quantised_is_told_by_name() -> None:
    graph = small_stem()
    weights = random_weights(graph, 0)
    with pytest.raises(GraphError, match="nothing says what the bytes of 'relu' stand for"):
        passes.apply_and_quantize(graph, weights, {"input": range_parameters(0, 1)})
    weights["conv.weight"][0] = np.nan
    _, new = quantized(graph, random_weights(graph, 0), picture(graph))
    both = {name: range_parameters(0, 1) for name in ("input", "relu")}
    _, new = passes.apply_and_quantize(graph, weights, both)
    with pytest.raises(ModelError, match=r"^conv\.weight: weights that are NaN or infinite"):
        new["conv.weight"]
