"""Direct convolution against its meaning in float64, whatever the shape and the attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor
from lushan.cpu.target import Target
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from support.compare import relative_rms
from support.random_graphs import random_weights


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Graph, tuple[int, int, int, int]]:
    """A graph of one convolution with what can follow it, and an input shape."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    ic = groups * draw(st.sampled_from([1, 2, 3, 5, 16]))
    oc = groups * draw(st.sampled_from([1, 3, 8, 16, 17, 32, 50, 64, 70]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    options: dict[str, Any] = {
        "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "padding": tuple(draw(st.integers(0, 3)) for _ in range(4)),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "groups": groups,
    }
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, ic))
    weight = builder.parameter("weight", (oc, *kernel, ic // groups))
    inputs = [x, weight]
    if draw(st.booleans()):
        inputs.append(builder.parameter("bias", (oc,)))
    y = builder.node("convolution", tuple(inputs), "conv", **options)
    if draw(st.booleans()):
        y = builder.node("leaky_relu", (y,), "leaky", slope=0.1)
    elif draw(st.booleans()):
        y = builder.node(draw(st.sampled_from(["relu", "sigmoid", "tanh"])), (y,), "activation")
    shape = (draw(st.integers(1, 3)), draw(st.integers(7, 20)), draw(st.integers(7, 31)), ic)
    return builder.build(y), shape


@given(case=convolutions(), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_equals_the_reference(
    target: Target, case: tuple[Graph, tuple[int, int, int, int]], seed: int
) -> None:
    graph, shape = case
    weights = random_weights(graph, seed)
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    ours = executor.compile(graph, weights, threads=1, target=target)({"input": x})
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = interpret.compile(graph, double)({"input": x.astype(np.float64)})
    name = graph.outputs[0]
    assert relative_rms(ours[name], exact[name]) <= 2e-6


def test_the_longest_sum_of_the_family_stays_accurate(target: Target) -> None:
    """4,608 terms in one running sum: chapter 14 of the mission in earnest."""
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 512))
    graph = builder.build(builder.convolution(x, "conv", 64, kernel=3))
    weights = random_weights(graph, 0)
    picture = np.random.default_rng(1).standard_normal((1, 7, 7, 512), np.float32)
    ours = executor.compile(graph, weights, target=target)({"input": picture})["conv"]
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = interpret.compile(graph, double)({"input": picture.astype(np.float64)})["conv"]
    assert relative_rms(ours, exact) <= 2e-6
