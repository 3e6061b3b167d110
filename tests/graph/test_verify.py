"""The verifier refuses every kind of illegal graph, by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lushan.errors import GraphError
from lushan.graph.ir import Graph, Node, TensorType, Value, make_node
from lushan.graph.verify import infer_types, verify

INPUT = Value("x", TensorType((None, None, None, 8)))
WEIGHT = Value("w", TensorType((4, 3, 3, 8)))
WINDOW = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
CONVOLUTION = make_node("convolution", ("x", "w"), ("y",), **WINDOW)
GRAPH = Graph((INPUT,), (WEIGHT,), (CONVOLUTION,), ("y",))


def nodes(*replaced: Node) -> Graph:
    return replace(GRAPH, nodes=replaced)


def changed(**attributes: object) -> Graph:
    options = {**WINDOW, **attributes}
    return nodes(make_node("convolution", ("x", "w"), ("y",), **options))


RELU = make_node("relu", ("y",), ("z",))
POOLING = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (replace(GRAPH, outputs=()), "no outputs"),
        (replace(GRAPH, outputs=("q",)), "the output 'q' is not defined"),
        (replace(GRAPH, parameters=(WEIGHT, WEIGHT)), "'w' is defined twice"),
        (nodes(CONVOLUTION, CONVOLUTION), "'y' is defined twice"),
        (nodes(RELU, CONVOLUTION), "node 'z' reads 'y', which nothing before it defines"),
        (nodes(make_node("swish", ("x",), ("y",))), "unknown operator 'swish'"),
        (nodes(make_node("relu", ("x", "w"), ("y",))), "relu 'y' has 2 inputs; it takes 1 to 1"),
        (nodes(make_node("relu", ("x",), ())), "relu '?' has 0 outputs; it takes 1 to 1"),
        (
            nodes(make_node("relu", ("x",), ("y",), updates=("w",))),
            "relu 'y' has 1 updates; it takes 0 to 0",
        ),
        (nodes(make_node("relu", ("x",), ("y",), slope=1)), "has the attributes ['slope']"),
        (nodes(make_node("convolution", ("x", "w"), ("y",))), "it takes ['dilation', 'groups'"),
        (changed(stride=(0, 1)), "(0, 1) is no valid stride"),
        (changed(stride=2), "2 is no valid stride"),
        (changed(padding=(1, 1)), "(1, 1) is no valid padding"),
        (changed(padding=(-1, 0, 0, 0)), "is no valid padding"),
        (changed(groups=3), "channels do not fit its weight in 3 group(s)"),
        (changed(groups=True), "True is no valid groups"),
        (
            nodes(make_node("max_pooling", ("x",), ("y",), **{**POOLING, "padding": (3, 0, 0, 0)})),
            "must be smaller than the kernel (3, 3)",
        ),
        (
            nodes(CONVOLUTION, make_node("add", ("x", "y"), ("z",))),
            "add 'z': the two shapes differ; it received float32[?, ?, ?, 8], float32[?, ?, ?, 4]",
        ),
        (
            nodes(make_node("zero_padding_shortcut", ("x",), ("y",), stride=2, channels=4)),
            "it cannot shrink to 4 channels",
        ),
        (nodes(make_node("linear", ("x", "w"), ("y",))), "linear 'y'"),
        (nodes(make_node("prelu", ("x", "w"), ("y",))), "an input should be float32[8]"),
    ],
)
def test_illegal_graphs_are_refused_by_name(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert message in str(caught.value)


def test_only_parameters_are_updated() -> None:
    statistics = tuple(Value(name, TensorType((8,))) for name in ("g", "b", "m", "v"))
    node = make_node(
        "batch_norm_training",
        ("x", "g", "b", "m", "x"),
        ("y", "mean", "variance"),
        updates=("m", "x"),
        epsilon=1e-5,
        momentum=0.1,
    )
    with pytest.raises(GraphError, match="updates 'x', which is not a parameter"):
        verify(Graph((INPUT,), statistics, (node,), ("y",)))


@pytest.mark.parametrize("updates", [("g", "b"), ("v", "m"), ("m", "m")])
def test_a_node_updates_the_inputs_that_its_operator_says(updates: tuple[str, str]) -> None:
    statistics = tuple(Value(name, TensorType((8,))) for name in ("g", "b", "m", "v"))
    node = make_node(
        "batch_norm_training",
        ("x", "g", "b", "m", "v"),
        ("y", "mean", "variance"),
        updates=updates,
        epsilon=1e-5,
        momentum=0.1,
    )
    graph = Graph((INPUT,), statistics, (node,), ("y",))
    with pytest.raises(GraphError, match=r"of its inputs these should be \['m', 'v'\]"):
        verify(graph)
    verify(replace(graph, nodes=(replace(node, updates=("m", "v")),)))


@pytest.mark.parametrize(
    "value",
    [
        Value("w", TensorType((4, 3, 3, 0))),
        Value("w", TensorType((4, 3, 3, None))),
        Value("w", TensorType((4, 3, 3, 8), "bfloat16")),
    ],
)
def test_declarations_that_no_array_can_have(value: Value) -> None:
    with pytest.raises(GraphError, match="'w' is declared as"):
        verify(replace(GRAPH, parameters=(value,)))


def test_a_legal_graph_passes_and_its_sizes_follow_the_input() -> None:
    verify(GRAPH)
    assert infer_types(GRAPH)["y"] == TensorType((None, None, None, 4))
    assert infer_types(GRAPH, {"x": (2, 9, 7, 8)})["y"] == TensorType((2, 9, 7, 4))


def test_unknown_inputs_are_named() -> None:
    with pytest.raises(GraphError, match="no input 'q'; its inputs are x"):
        infer_types(GRAPH, {"q": (1, 2, 3, 8)})


def test_graphs_are_values() -> None:
    again = Graph(
        (INPUT,), (WEIGHT,), (make_node("convolution", ("x", "w"), ("y",), **WINDOW),), ("y",)
    )
    assert again == GRAPH
    assert hash(again) == hash(GRAPH)
    with pytest.raises(AttributeError):
        GRAPH.outputs = ()  # type: ignore[misc]
