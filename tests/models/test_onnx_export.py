"""Export to ONNX: the same numbers elsewhere, open sizes, refusals. The oracle tests the rest."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest

from lushan.errors import GraphError, MissingExtraError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.gradient_meanings import GRADIENT_MEANINGS
from lushan.graph.ir import Graph
from lushan.graph.operators import OPERATORS
from lushan.models.onnx_export import CONVERSIONS, to_onnx
from lushan.models.resnet_graph import build
from support.compare import relative_error
from support.onnx_oracle import run_with_onnxruntime
from support.random_graphs import random_weights
from support.small_models import NETWORK

WINDOW = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}


def pooling_graph(*outputs: str) -> Graph:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 2))
    builder.node("max_pooling", (x,), "pool", more_outputs=("switches",), **WINDOW)
    return builder.build(*outputs)


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_sizes_of_a_run_stay_open_and_names_are_kept() -> None:
    graph = build(NETWORK)
    model = to_onnx(graph, random_weights(graph, 0))
    onnx.checker.check_model(model, full_check=True)
    [entry], [result] = model.graph.input, model.graph.output
    assert (entry.name, shape_of(entry)) == ("input", ["batch", 3, "height", "width"])
    assert (result.name, shape_of(result)) == ("fc", ["batch", 3])
    names = {value.name for value in model.graph.initializer}
    assert names == {value.name for value in graph.parameters}
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_what_random_graphs_leave_out() -> None:
    """Softmax over the channels of pictures, uneven padding, transposed convolution."""
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    weight = builder.parameter("up.weight", (3, 3, 2, 4))
    options = {"stride": (2, 1), "padding": (1, 0, 0, 1), "dilation": (1, 2), "groups": 1}
    x = builder.node("transposed_convolution", (x, weight), "up", output_padding=(1, 0), **options)
    weight = builder.parameter("down.weight", (6, 3, 2, 2))
    x = builder.node("convolution", (x, weight), "down", **{**options, "groups": 2})
    x = builder.prelu(x, "prelu")
    graph = builder.build(builder.node("softmax", (x,), "softmax"))
    weights = random_weights(graph, 4)
    picture = np.random.default_rng(0).standard_normal((2, 7, 9, 3), np.float32)
    ours = interpret.compile(graph, weights)({"input": picture})["softmax"]
    theirs = run_with_onnxruntime(graph, weights, {"input": picture})["softmax"]
    assert relative_error(ours, theirs) < 1e-5


def test_prelu_of_features() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, 5))
    graph = builder.build(builder.prelu(x, "prelu"))
    weights = random_weights(graph, 5)
    features = np.random.default_rng(0).standard_normal((4, 5), np.float32)
    ours = interpret.compile(graph, weights)({"input": features})["prelu"]
    theirs = run_with_onnxruntime(graph, weights, {"input": features})["prelu"]
    assert np.array_equal(ours, theirs)


def test_only_operators_of_training_and_of_passes_are_left_out() -> None:
    left_out = {"batch_norm_training", "cross_entropy", "fused_convolution"}  # the last: of passes
    on_bytes = {name for name, operator in OPERATORS.items() if operator.elements}
    assert OPERATORS.keys() - CONVERSIONS.keys() == left_out | on_bytes | set(GRADIENT_MEANINGS)


def test_switches_that_nobody_reads_are_dropped_and_others_refused() -> None:
    model = to_onnx(pooling_graph("pool"), {})
    assert [list(node.output) for node in model.graph.node] == [["pool"]]
    with pytest.raises(GraphError, match=r"'pool' cannot be exported .* its switches 'switches'"):
        to_onnx(pooling_graph("pool", "switches"), {})


def test_operators_of_training_are_refused() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, 4))
    target = builder.input("target", (None,), "int64")
    loss = builder.node("cross_entropy", (x, target), "loss", label_smoothing=0.0)
    with pytest.raises(GraphError, match=r"'loss' cannot be exported .* operator of training"):
        to_onnx(builder.build(loss), {})


def test_missing_weights_are_named() -> None:
    with pytest.raises(GraphError, match=r"no weights for the parameter 'conv1\.weight'"):
        to_onnx(build(NETWORK), {})


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lushan\[onnx\]"'):
        to_onnx(pooling_graph("pool"), {})
