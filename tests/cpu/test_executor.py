"""The CPU engine: what it computes, whatever the graph and whatever is kept."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor, parts
from lushan.cpu.target import Target
from lushan.errors import GraphError
from lushan.graph import interpret, operators
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from support.compare import relative_error
from support.operator_graphs import OPERATOR_GRAPHS, window
from support.random_graphs import Case, cases, random_weights

pytestmark = pytest.mark.usefixtures("poison")
Arrays = dict[str, np.ndarray]


def check(
    graph: Graph, weights: Arrays, inputs: Arrays, target: Target, keep: tuple[str, ...] = ()
) -> Arrays:
    """Compare every output and kept value with the reference in float64."""
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    wide = {name: array.astype(np.float64) for name, array in inputs.items()}
    expected = interpret.compile(graph, double, keep=keep)(wide)
    program = executor.compile(graph, weights, keep=keep, threads=2, target=target)
    actual = program(inputs)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        if value.dtype == np.int64:
            np.testing.assert_array_equal(actual[name], value)
        else:
            assert actual[name].dtype == np.float32
            assert relative_error(actual[name], value) <= 1e-5, name
    again = program(inputs)
    program.close()
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in actual.items()
    }
    return actual


@settings(max_examples=15)
@given(case=cases(), data=st.data())
def test_it_equals_the_reference_on_random_graphs(
    target: Target, case: Case, data: st.DataObject
) -> None:
    names = sorted(case.graph.value_names())
    keep = tuple(data.draw(st.lists(st.sampled_from(names), max_size=3)))
    check(case.graph, case.weights, {"input": case.x}, target, keep)


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", OPERATOR_GRAPHS)
def test_it_equals_the_reference(target: Target, name: str) -> None:
    graph = OPERATOR_GRAPHS[name]
    weights = random_weights(graph, seed=5)
    inputs = {"x": picture(2, 9, 12, 3)}
    check(graph, weights, inputs, target)
    every = tuple(name for name in graph.value_names())
    check(graph, weights, inputs, target, every)


def two_inputs() -> tuple[Graph, Arrays]:
    builder = GraphBuilder()
    a = builder.input("a", (None, None, None, 3))
    b = builder.input("b", (None, None, None, 4))
    c = builder.input("c", (None, 5))
    joined = builder.node("add", (builder.convolution(a, "ac", 4, kernel=3), b), "joined")
    graph = builder.build(builder.node("relu", (joined,), "y"), builder.linear(c, "fc", 6))
    return graph, random_weights(graph, seed=3)


def test_several_inputs(target: Target) -> None:
    graph, weights = two_inputs()
    inputs = {"b": picture(2, 6, 7, 4), "a": picture(2, 6, 7, 3), "c": picture(2, 5)}
    check(graph, weights, inputs, target)


def test_inputs_of_different_batches_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "RUN_BYTES", 1)
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    graph, weights = two_inputs()
    inputs = {"a": picture(3, 6, 7, 3), "b": picture(3, 6, 7, 4), "c": picture(5, 5)}
    expected = interpret.compile(graph, weights)(inputs)
    actual = executor.compile(graph, weights, threads=1)(inputs)
    for name, value in expected.items():
        assert relative_error(actual[name], value) <= 1e-5


def test_inputs_of_any_layout_and_precision(target: Target) -> None:
    graph, weights = two_inputs()
    a, b, c = picture(2, 6, 7, 3), picture(2, 6, 7, 4), picture(2, 5)
    program = executor.compile(graph, weights, threads=1, target=target)
    plain = program({"a": a, "b": b, "c": c})
    odd = program(
        {"a": np.asfortranarray(a), "b": b[:, ::-1].copy()[:, ::-1], "c": c.astype(np.float64)}
    )
    for name, value in plain.items():
        np.testing.assert_array_equal(odd[name], value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
@pytest.mark.parametrize("name", ["batch_norm_after_pooling", "pooling", "transposed"])
def test_weights_of_any_precision(name: str, dtype: str) -> None:
    graph = OPERATOR_GRAPHS[name]
    other = {n: array.astype(dtype) for n, array in random_weights(graph, seed=5).items()}
    single = {n: array.astype(np.float32) for n, array in other.items()}
    inputs = {"x": picture(1, 6, 7, 3)}
    expected = executor.compile(graph, single, threads=1)(inputs)
    for n, array in executor.compile(graph, other, threads=1)(inputs).items():
        np.testing.assert_array_equal(array, expected[n])


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int8"])
def test_other_elements_than_float32_are_refused(dtype: str) -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 3), dtype)
    if dtype == "uint8":
        builder.node("quantized_max_pooling", (x,), "y", **window(2, 2))
    elif dtype != "int8":
        builder.node("relu", (x,), "y")
    graph = builder.build("x" if dtype == "int8" else "y")
    program = executor.compile(graph, {}, threads=1)
    with pytest.raises(GraphError, match=rf"a value of {dtype}\[.*float32"):
        program({"x": np.zeros((1, 4, 4, 3), dtype)})


def test_results_belong_to_the_caller() -> None:
    graph, weights = two_inputs()
    inputs = {"a": picture(1, 6, 7, 3), "b": picture(1, 6, 7, 4), "c": picture(1, 5)}
    program = executor.compile(graph, weights, keep=("ac.weight", "a"), threads=1)
    first = program(inputs)
    copies = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array[...] = 7
    for name, array in program(inputs).items():
        np.testing.assert_array_equal(array, copies[name])


def test_wrong_inputs_are_refused_and_leave_it_usable() -> None:
    graph, weights = two_inputs()
    good = {"a": picture(1, 6, 7, 3), "b": picture(1, 6, 7, 4), "c": picture(1, 5)}
    program = executor.compile(graph, weights, threads=2)
    for wrong in (
        {**good, "b": picture(1, 6, 8, 4)},
        {**good, "a": picture(1, 6, 7, 5)},
        {**good, "c": picture(0, 5)},
        {"a": good["a"]},
    ):
        with pytest.raises(GraphError):
            program(wrong)
    program(good)
    program.close()
    with pytest.raises(GraphError, match="closed"):
        program(good)
    program.close()


def test_endless_sizes_leave_nothing_behind() -> None:
    """Neither plans nor arenas: what Python holds after 80 new sizes is what it held after 40."""
    graph = OPERATOR_GRAPHS["winograd"]
    program = executor.compile(graph, random_weights(graph, seed=5), threads=2)
    random = np.random.default_rng(3)

    def run_new_sizes(first: int) -> int:
        for number in range(first, first + 40):
            program({"x": picture(int(random.integers(1, 4)), 10 + number, 100 - number, 3)})
        operators._output_types.cache_clear()  # bounded, and as full as earlier tests left it
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        return held

    tracemalloc.start()
    try:
        before = run_new_sizes(0)
        assert run_new_sizes(40) - before < 100_000
    finally:
        tracemalloc.stop()
    assert len(program._plans) <= executor.PLANS_KEPT
    assert len(program._arenas) == 1
    program.close()
