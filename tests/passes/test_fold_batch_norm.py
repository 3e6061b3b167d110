"""Folding batch norm: the same numbers before and after, and nothing lost on the way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import make_node
from lushan.graph.printer import to_text
from lushan.graph.verify import verify
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.passes.fold_batch_norm import fold_batch_norm
from support.compare import relative_error
from support.random_graphs import Case, cases, random_weights

GOLDEN_BEFORE = """\
input input: float32[?, ?, ?, 3]
parameter conv.weight: float32[4, 3, 3, 3]
parameter bn.weight: float32[4]
parameter bn.bias: float32[4]
parameter bn.running_mean: float32[4]
parameter bn.running_var: float32[4]
conv = convolution(input, conv.weight) dilation=(1,1) groups=1 padding=(1,1,1,1) stride=(1,1)\
: float32[?, ?, ?, 4]
bn = batch_norm(conv, bn.weight, bn.bias, bn.running_mean, bn.running_var) epsilon=1e-05\
: float32[?, ?, ?, 4]
output bn
"""
GOLDEN_AFTER = """\
input input: float32[?, ?, ?, 3]
parameter conv.folded.weight: float32[4, 3, 3, 3]
parameter conv.folded.bias: float32[4]
bn = convolution(input, conv.folded.weight, conv.folded.bias) dilation=(1,1) groups=1 \
padding=(1,1,1,1) stride=(1,1): float32[?, ?, ?, 4]
output bn
"""


@given(case=cases(), data=st.data())
def test_same_numbers_before_and_after(case: Case, data: st.DataObject) -> None:
    names = [node.name for node in case.graph.nodes]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    folded, weights = fold_batch_norm(case.graph, case.weights, keep=keep)
    verify(folded)
    before = interpret.compile(case.graph, case.weights, keep=keep)({"input": case.x})
    after = interpret.compile(folded, weights, keep=keep)({"input": case.x})
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert relative_error(after[name], array) < 1e-5, name


def conv_bn() -> GraphBuilder:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    builder.batch_norm(builder.convolution(x, "conv", 4, kernel=3), "bn")
    return builder


def test_golden_text() -> None:
    graph = conv_bn().build("bn")
    weights = random_weights(graph, 0)
    assert to_text(graph) == GOLDEN_BEFORE
    folded, new = fold_batch_norm(graph, weights)
    assert to_text(folded) == GOLDEN_AFTER
    assert new.keys() == {"conv.folded.weight", "conv.folded.bias"}
    assert weights.keys() == {value.name for value in graph.parameters}


def test_a_kept_or_shared_convolution_stays() -> None:
    graph = conv_bn().build("bn")
    weights = random_weights(graph, 0)
    assert fold_batch_norm(graph, weights, keep=("conv",))[0] == graph
    both = conv_bn().build("bn", "conv")
    assert fold_batch_norm(both, weights)[0] == both


def test_a_weight_that_another_convolution_shares_stays_intact() -> None:
    builder = conv_bn()
    window = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    builder.node("convolution", ("input", "conv.weight"), "twin", **window)
    graph = builder.build("bn", "twin")
    weights = random_weights(graph, 0)
    folded, new = fold_batch_norm(graph, weights)
    assert np.array_equal(new["conv.weight"], weights["conv.weight"])
    x = np.random.default_rng(0).standard_normal((1, 5, 5, 3), np.float32)
    twin = interpret.compile(folded, new)({"input": x})["twin"]
    assert np.array_equal(twin, interpret.compile(graph, weights)({"input": x})["twin"])


def test_what_is_no_constant_is_not_folded() -> None:
    """A weight that a node computes, and a statistic that another node moves."""
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    weight = builder.node("tanh", (builder.parameter("raw", (4, 1, 1, 3)),), "weight")
    window = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    builder.batch_norm(builder.node("convolution", (x, weight), "conv", **window), "bn")
    computed = builder.build("bn")

    builder = conv_bn()
    statistics = tuple(f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
    builder.node(
        "batch_norm_training",
        (builder.convolution("input", "conv2", 4, kernel=1), *statistics),
        "training",
        more_outputs=("mean", "variance"),
        updates=statistics[2:],
        epsilon=1e-5,
        momentum=0.1,
    )
    moving = builder.build("bn", "training")
    for graph in (computed, moving):
        weights = random_weights(graph, 0)
        folded, new = fold_batch_norm(graph, weights)
        assert [node.operator for node in folded.nodes] == [node.operator for node in graph.nodes]
        assert new.keys() == weights.keys()


def test_resnet_has_no_batch_norm_left() -> None:
    graph = build(ARCHITECTURES["resnet50"])
    folded, _ = fold_batch_norm(graph, random_weights(graph, 0))
    operators = [node.operator for node in folded.nodes]
    assert "batch_norm" not in operators
    assert operators.count("convolution") == 53
    assert make_node("relu", ("bn1",), ("relu",)) in folded.nodes
