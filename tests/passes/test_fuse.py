"""Fusion: the same numbers before and after, and what must not be fused stays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lushan import passes
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.printer import to_text
from lushan.graph.verify import verify
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.passes.fuse import fuse
from support.compare import relative_error
from support.random_graphs import Case, cases, random_weights

GOLDEN = """\
input input: float32[?, ?, ?, 4]
parameter conv.weight: float32[4, 3, 3, 4]
parameter relu.fused.bias: float32[4]
relu = fused_convolution(input, conv.weight, relu.fused.bias, input) activation='relu' \
dilation=(1,1) groups=1 padding=(1,1,1,1) slope=0.0 stride=(1,1): float32[?, ?, ?, 4]
output relu
"""


@given(case=cases(), data=st.data())
def test_same_numbers_before_and_after(case: Case, data: st.DataObject) -> None:
    names = [node.name for node in case.graph.nodes]
    keep = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    fused, weights = passes.apply(case.graph, case.weights, keep=keep)
    verify(fused)
    before = interpret.compile(case.graph, case.weights, keep=keep)({"input": case.x})
    after = interpret.compile(fused, weights, keep=keep)({"input": case.x})
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert relative_error(after[name], array) < 1e-5, name


def residual_block() -> GraphBuilder:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 4))
    y = builder.convolution(x, "conv", 4, kernel=3)
    builder.node("relu", (builder.node("add", (y, x), "add"),), "relu")
    return builder


def test_golden_text() -> None:
    graph = residual_block().build("relu")
    fused, _ = fuse(graph, random_weights(graph, 0))
    assert to_text(fused) == GOLDEN


def test_what_others_read_or_keep_is_not_fused_away() -> None:
    graph = residual_block().build("relu")
    weights = random_weights(graph, 0)
    kept, _ = fuse(graph, weights, keep=("conv",))
    assert [node.operator for node in kept.nodes] == ["fused_convolution", "add", "relu"]
    kept, _ = fuse(graph, weights, keep=("add",))
    assert [node.operator for node in kept.nodes] == ["fused_convolution", "relu"]
    both = residual_block().build("relu", "conv")
    assert fuse(both, weights)[0].nodes[0].operator == "fused_convolution"
    assert len(fuse(both, weights)[0].nodes) == 3


def test_a_value_added_to_itself_stays() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 4))
    y = builder.convolution(x, "conv", 4, kernel=3)
    graph = builder.build(builder.node("add", (y, y), "add"))
    fused, weights = fuse(graph, random_weights(graph, 0))
    assert [node.operator for node in fused.nodes] == ["fused_convolution", "add"]
    picture = np.ones((1, 4, 4, 4), np.float32)
    values = interpret.compile(fused, weights, keep=("conv",))({"input": picture})
    assert np.array_equal(values["add"], 2 * values["conv"])


def test_resnet50_becomes_convolutions_and_little_else() -> None:
    graph = build(ARCHITECTURES["resnet50"])
    fused, _ = passes.apply(graph, random_weights(graph, 0))
    operators = [node.operator for node in fused.nodes]
    assert operators.count("fused_convolution") == 53
    assert len(operators) == 56  # and max pooling, global average pooling, linear


def test_every_pass_gives_its_reason() -> None:
    assert all(reason for _, reason in passes.PASSES)
