"""The interpreter: right numbers, right values kept, parameters updated in place."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

from lushan.errors import GraphError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from support.compare import relative_error
from support.onnx_oracle import run_with_onnxruntime
from support.random_graphs import Case, cases, random_weights


def small_graph() -> Graph:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    x = builder.convolution(x, "conv", 4, kernel=3)
    x = builder.node("relu", (x,), "relu")
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    x = builder.node("max_pooling", (x,), "pool", more_outputs=("switches",), **window)
    return builder.build(x)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@given(case=cases())
@settings(max_examples=40)
def test_equals_onnx_runtime_on_random_graphs(case: Case) -> None:
    ours = interpret.compile(case.graph, case.weights)({"input": case.x})
    theirs = run_with_onnxruntime(case.graph, case.weights, {"input": case.x})
    for name in case.graph.outputs:
        assert relative_error(ours[name], theirs[name]) < 1e-5


@given(case=cases())
def test_shape_rules_tell_the_shapes_of_a_run(case: Case) -> None:
    names = [name for node in case.graph.nodes for name in node.outputs]
    values = interpret.compile(case.graph, case.weights, keep=names)({"input": case.x})
    types = infer_types(case.graph, {"input": case.x.shape})
    for name in names:
        assert values[name].shape == types[name].shape, name
        assert values[name].dtype == np.dtype(types[name].dtype), name


def test_keep_returns_inner_values_and_second_outputs() -> None:
    graph = small_graph()
    program = interpret.compile(graph, random_weights(graph, 0), keep=("conv", "switches"))
    values = program({"input": picture(2, 6, 6, 3)})
    assert set(values) == {"pool", "conv", "switches"}
    assert values["switches"].dtype == np.int64
    plane = np.maximum(values["conv"], 0).reshape(2, 36, 4)
    picked = np.take_along_axis(plane, values["switches"].reshape(2, 9, 4), axis=1)
    assert np.array_equal(picked.reshape(2, 3, 3, 4), values["pool"])


def test_profile_names_every_node_in_order() -> None:
    graph = small_graph()
    program = interpret.compile(graph, random_weights(graph, 0))
    times = program.profile({"input": picture(2, 6, 6, 3)})
    assert [name for name, _ in times] == ["conv", "relu", "pool"]
    assert all(seconds >= 0 for _, seconds in times)


def test_float64_in_float64_out() -> None:
    graph = small_graph()
    program = interpret.compile(graph, random_weights(graph, 0, np.float64))
    assert program({"input": picture(1, 4, 4, 3).astype(np.float64)})["pool"].dtype == np.float64


def training_graph() -> Graph:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    target = builder.input("target", (None,), "int64")
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = [builder.parameter(f"bn.{name}", (3,)) for name in names]
    x = builder.node(
        "batch_norm_training",
        (x, *parameters),
        "bn",
        more_outputs=("mean", "variance"),
        updates=("bn.running_mean", "bn.running_var"),
        epsilon=1e-5,
        momentum=0.1,
    )
    x = builder.linear(builder.node("global_average_pooling", (x,), "pooled"), "fc", 4)
    return builder.build(builder.node("cross_entropy", (x, target), "loss", label_smoothing=0.0))


def test_a_node_updates_the_programs_parameters_and_not_the_callers() -> None:
    graph = training_graph()
    weights = random_weights(graph, 0)
    before = {name: array.copy() for name, array in weights.items()}
    program = interpret.compile(graph, weights)
    x = picture(4, 5, 5, 3)
    loss = program({"input": x, "target": np.array([0, 1, 2, 3])})["loss"]
    assert np.isfinite(loss)
    expected = 0.9 * before["bn.running_mean"] + 0.1 * x.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(program.parameters["bn.running_mean"], expected, rtol=1e-5)
    for name, array in weights.items():
        assert np.array_equal(array, before[name]), name


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes the inputs ['input']; it received []"),
        ({"input": picture(1, 4, 4, 2)}, "received shape [1, 4, 4, 2]"),
        ({"input": picture(4, 4, 3)}, "received shape [4, 4, 3]"),
        ({"input": picture(0, 4, 4, 3)}, "received shape [0, 4, 4, 3]"),
        ({"input": np.zeros((1, 4, 4, 3), np.uint8)}, "should be float32; it received uint8"),
        ({"input": picture(1, 1, 1, 3)}, "a window of 2×2 pixels does not fit an input of 1×1"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], message: str) -> None:
    graph = small_graph()
    program = interpret.compile(graph, random_weights(graph, 0))
    with pytest.raises(GraphError) as caught:
        program(inputs)
    assert message in str(caught.value)


def test_inputs_of_whole_numbers_are_told_from_floats() -> None:
    graph = training_graph()
    program = interpret.compile(graph, random_weights(graph, 0))
    with pytest.raises(GraphError, match="input 'target' should be int64; it received float32"):
        program({"input": picture(2, 4, 4, 3), "target": np.zeros(2, np.float32)})


def test_values_are_freed_after_their_last_reader() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 4))
    for index in range(12):
        x = builder.node("relu", (x,), f"relu{index}")
    program = interpret.compile(builder.build(x), {})
    pixels = np.ones((1, 256, 256, 4), np.float32)  # 1 MiB, and so is every value
    tracemalloc.start()
    try:
        program({"input": pixels})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * pixels.nbytes


def test_what_a_caller_gets_is_the_callers() -> None:
    graph = training_graph()
    program = interpret.compile(graph, random_weights(graph, 0), keep=("input", "bn.running_mean"))
    x = picture(4, 5, 5, 3)
    before = x.copy()
    values = program({"input": x, "target": np.array([0, 1, 2, 3])})
    first = values["bn.running_mean"].copy()
    assert np.array_equal(values["input"], before)
    values["input"][...] = 7
    assert np.array_equal(x, before)
    program({"input": x, "target": np.array([0, 1, 2, 3])})
    assert np.array_equal(values["bn.running_mean"], first)
    assert not np.array_equal(program.parameters["bn.running_mean"], first)


def test_a_loss_is_an_array_that_a_node_can_read() -> None:
    builder = GraphBuilder()
    scores = builder.input("scores", (None, 3))
    target = builder.input("target", (None, 3))
    loss = builder.node("cross_entropy", (scores, target), "loss", label_smoothing=0.0)
    graph = builder.build(builder.node("add", (loss, loss), "twice"))
    inputs = {"scores": picture(2, 3), "target": np.full((2, 3), 1 / 3, np.float32)}
    assert interpret.compile(graph, {})(inputs)["twice"].shape == ()


def test_wrong_weights_and_unknown_values_are_named() -> None:
    graph = small_graph()
    weights = random_weights(graph, 0)
    with pytest.raises(GraphError, match=r"no weights for the parameter 'conv\.weight'"):
        interpret.compile(graph, {})
    with pytest.raises(GraphError, match=r"should have shape \[4, 3, 3, 3\]; its weights have"):
        interpret.compile(graph, {"conv.weight": np.zeros((4, 3), np.float32)})
    with pytest.raises(GraphError, match="cannot keep 'layer9'"):
        interpret.compile(graph, weights, keep=("layer9",))


def test_a_closed_program_refuses_to_run() -> None:
    graph = small_graph()
    program = interpret.compile(graph, random_weights(graph, 0))
    program.close()
    program.close()
    with pytest.raises(GraphError, match="closed"):
        program({"input": picture(1, 4, 4, 3)})
