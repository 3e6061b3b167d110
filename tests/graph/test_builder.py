"""The builder refuses at the node what is wrong with it, by name."""

from __future__ import annotations

import pytest

from lushan.errors import GraphError
from lushan.graph.builder import GraphBuilder


@pytest.fixture
def builder() -> GraphBuilder:
    builder = GraphBuilder()
    builder.input("x", (None, None, None, 4))
    return builder


def test_parameters_take_their_sizes_from_what_they_are_applied_to(builder: GraphBuilder) -> None:
    x = builder.convolution("x", "conv", 6, kernel=5, stride=2, bias=True)
    x = builder.prelu(builder.batch_norm(x, "bn"), "prelu")
    x = builder.linear(builder.node("global_average_pooling", (x,), "pool"), "fc", 3)
    graph = builder.build(x)
    shapes = {value.name: value.type.shape for value in graph.parameters}
    assert shapes["conv.weight"] == (6, 5, 5, 4)
    assert shapes["conv.bias"] == (6,)
    assert shapes["bn.running_var"] == shapes["prelu.weight"] == (6,)
    assert shapes["fc.weight"] == (3, 6)
    # Without being told, a convolution keeps the picture's size at stride 1.
    assert graph.node("conv").options["padding"] == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "message"),
    [
        ("swish", ("x",), {}, "node 'y' uses the unknown operator 'swish'"),
        ("relu", ("z",), {}, "nothing called 'z' has been added to the graph"),
        ("relu", ("x", "x"), {}, "relu 'y' has 2 inputs; it takes 1 to 1"),
        ("relu", ("x",), {"slope": 1}, r"relu 'y' has the attributes \['slope'\]"),
        ("leaky_relu", ("x",), {"slope": float("nan")}, "nan is no valid slope"),
        ("linear", ("x", "x"), {}, r"linear 'y': an input should be float32\[\?, \?\]"),
    ],
)
def test_wrong_nodes(
    builder: GraphBuilder,
    operator: str,
    inputs: tuple[str, ...],
    attributes: dict[str, float],
    message: str,
) -> None:
    with pytest.raises(GraphError, match=message):
        builder.node(operator, inputs, "y", **attributes)
    builder.build(builder.node("relu", ("x",), "y"))  # and nothing of it is left


def test_unknown_channels_are_no_size_for_a_parameter(builder: GraphBuilder) -> None:
    builder.input("wide", (None, None))
    with pytest.raises(GraphError, match="the channels of 'wide' are not known"):
        builder.linear("wide", "fc", 3)
