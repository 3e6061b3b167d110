"""What the representation accepts, ``reference`` runs, and the shapes are as foretold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.errors import GraphError, UsageError
from lushan.graph.interpret import MEANINGS
from lushan.graph.ir import TensorType, make_node
from lushan.graph.operators import OPERATORS, output_types
from lushan.graph.verify import check_signature

Shapes: TypeAlias = list[tuple[int, ...]]
Drawn: TypeAlias = tuple[Shapes, dict[str, Any]]  # the shapes of the inputs, and the attributes

small = st.integers(1, 3)
border = st.integers(0, 3)
slopes = st.sampled_from([-1, 0, 0.1, 2.5])


def pictures(draw: st.DrawFn, channels: int | None = None) -> tuple[int, int, int, int]:
    size = st.integers(1, 9)
    return draw(small), draw(size), draw(size), channels or draw(st.integers(1, 6))


def window(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "stride": (draw(small), draw(small)),
        "padding": tuple(draw(border) for _ in range(4)),
        "dilation": (draw(small), draw(small)),
        "groups": draw(small),
    }


def convolution(draw: st.DrawFn) -> Drawn:
    options = window(draw)
    per_group, outputs = draw(small), draw(st.integers(1, 6))
    x = pictures(draw, per_group * options["groups"])
    shapes: Shapes = [x, (outputs, draw(small), draw(small), per_group)]
    return (shapes + [(outputs,)] * draw(st.integers(0, 1))), options


def fused_convolution(draw: st.DrawFn) -> Drawn:
    shapes, options = convolution(draw)
    shapes = [*shapes[:2], shapes[1][:1]]
    if draw(st.booleans()):
        same = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0, 0, 0)}
        shapes[1] = (shapes[1][0], 1, 1, shapes[1][3])
        shapes.append((*shapes[0][:3], shapes[1][0]))
        options = {**options, **same}
    activation = draw(st.sampled_from(["none", "relu", "leaky_relu"]))
    return shapes, {**options, "activation": activation, "slope": draw(slopes)}


def transposed_convolution(draw: st.DrawFn) -> Drawn:
    options = window(draw)
    x = pictures(draw)
    weight = (x[3], draw(small), draw(small), draw(small))
    shapes: Shapes = [x, weight]
    shapes += [(weight[3] * options["groups"],)] * draw(st.integers(0, 1))
    return shapes, {**options, "output_padding": (draw(border), draw(border))}


def elementwise(draw: st.DrawFn) -> Drawn:
    return [tuple(draw(st.lists(small, min_size=1, max_size=4)))], {}


def leaky_relu(draw: st.DrawFn) -> Drawn:
    return elementwise(draw)[0], {"slope": draw(slopes)}


def per_channel(count: int, **attributes: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Drawn]:
    def drawn(draw: st.DrawFn) -> Drawn:
        [x], _ = elementwise(draw)
        options = {name: draw(strategy) for name, strategy in attributes.items()}
        return [x, *[x[-1:]] * count], options

    return drawn


def pooling(draw: st.DrawFn) -> Drawn:
    options = window(draw)
    kept = {name: options[name] for name in ("stride", "padding")}
    return [pictures(draw)], {"kernel": (draw(small), draw(small)), **kept}


def average_pooling(draw: st.DrawFn) -> Drawn:
    shapes, options = pooling(draw)
    return shapes, {**options, "count_include_pad": draw(st.booleans())}


def add(draw: st.DrawFn) -> Drawn:
    return elementwise(draw)[0] * 2, {}


def shortcut(draw: st.DrawFn) -> Drawn:
    return [pictures(draw)], {"stride": draw(small), "channels": draw(st.integers(1, 9))}


def linear(draw: st.DrawFn) -> Drawn:
    n, features, outputs = draw(small), draw(small), draw(small)
    return [(n, features), (outputs, features), (outputs,)][: draw(st.integers(2, 3))], {}


def cross_entropy(draw: st.DrawFn) -> Drawn:
    n, classes = draw(small), draw(small)
    target = draw(st.sampled_from([(n,), (n, classes)]))
    return [(n, classes), target], {"label_smoothing": draw(st.sampled_from([0.0, 0.3, 1]))}


def quantized_convolution(draw: st.DrawFn) -> Drawn:
    """Draw as for a fused convolution, with the parameters of what is bytes."""
    [x, weight, bias, *shortcut], options = fused_convolution(draw)
    zero_point = draw(st.sampled_from([(), x[-1:]]))
    shapes = [x, zero_point, weight, bias, bias]
    shapes += [*shortcut, (), ()] if shortcut else []
    shapes += [(), ()] if draw(st.booleans()) else []
    kept = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
    return shapes, {**kept, "activation": draw(st.sampled_from(["none", "relu"]))}


def quantized_linear(draw: st.DrawFn) -> Drawn:
    n, features, outputs = draw(small), draw(small), draw(small)
    zero_point = draw(st.sampled_from([(), (features,)]))
    return [(n, features), zero_point, (outputs, features), (outputs,), (outputs,)], {}


def quantize(draw: st.DrawFn) -> Drawn:
    [x], _ = elementwise(draw)
    return [x, *(draw(st.sampled_from([(), x[-1:]])) for _ in range(2))], {}


def with_numbers(drawn: Callable[[st.DrawFn], Drawn], count: int) -> Callable[[st.DrawFn], Drawn]:
    """Add scales and zero points to what an operator takes."""

    def more(draw: st.DrawFn) -> Drawn:
        shapes, options = drawn(draw)
        return [*shapes, *[()] * count], options

    return more


def as_x(shapes: Shapes, options: dict[str, Any]) -> tuple[int, ...]:
    return shapes[0]


def as_result(operator: str) -> Callable[[Shapes, dict[str, Any]], tuple[int, ...]]:
    """Return a function to the shape of what ``operator`` gives, or of x where it refuses."""

    def shape(shapes: Shapes, options: dict[str, Any]) -> tuple[int, ...]:
        try:
            return MEANINGS[operator](*(np.zeros(s, np.float32) for s in shapes), **options).shape
        except UsageError:
            return shapes[0]

    return shape


def backward(
    drawn: Callable[[st.DrawFn], Drawn], of_y: Callable[[Shapes, dict[str, Any]], tuple[int, ...]]
) -> Callable[[st.DrawFn], Drawn]:
    """Put the gradient of the output before what an operator takes."""

    def more(draw: st.DrawFn) -> Drawn:
        shapes, options = drawn(draw)
        return [of_y(shapes, options), *shapes], options

    return more


def convolution_backward_input(draw: st.DrawFn) -> Drawn:
    [grad_y, x, weight, *_], options = backward(convolution, as_result("convolution"))(draw)
    return [grad_y, weight, x], options


def convolution_backward_weight(draw: st.DrawFn) -> Drawn:
    [grad_y, x, weight, *_], options = backward(convolution, as_result("convolution"))(draw)
    return [grad_y, x], {**options, "kernel": weight[1:3]}


def linear_backward_input(draw: st.DrawFn) -> Drawn:
    n, features, outputs = draw(small), draw(small), draw(small)
    return [(n, outputs), (outputs, features)], {}


def linear_backward_weight(draw: st.DrawFn) -> Drawn:
    n, features, outputs = draw(small), draw(small), draw(small)
    return [(n, outputs), (n, features)], {}


def max_pooling_backward(draw: st.DrawFn) -> Drawn:
    (n, h, w, c), (ho, wo) = pictures(draw), (draw(small), draw(small))
    return [(n, ho, wo, c), (n, ho, wo, c), (n, h, w, c)], {}


def shortcut_backward(draw: st.DrawFn) -> Drawn:
    shapes, options = backward(shortcut, as_result("zero_padding_shortcut"))(draw)
    return shapes, {"stride": options["stride"]}


def update(draw: st.DrawFn) -> Drawn:
    shapes = elementwise(draw)[0] * 3
    numbers: Shapes = [()] * draw(st.integers(3, 4))
    return shapes + numbers, {"nesterov": draw(st.booleans())}


fractions = st.sampled_from([1e-5, 0.1, 1])
DRAWN: dict[str, Callable[[st.DrawFn], Drawn]] = {
    "convolution": convolution,
    "fused_convolution": fused_convolution,
    "transposed_convolution": transposed_convolution,
    "batch_norm": per_channel(4, epsilon=fractions),
    "batch_norm_training": per_channel(4, epsilon=fractions, momentum=fractions),
    "relu": elementwise,
    "leaky_relu": leaky_relu,
    "prelu": per_channel(1),
    "sigmoid": elementwise,
    "tanh": elementwise,
    "max_pooling": pooling,
    "average_pooling": average_pooling,
    "global_average_pooling": lambda draw: ([pictures(draw)], {}),
    "add": add,
    "zero_padding_shortcut": shortcut,
    "linear": linear,
    "softmax": elementwise,
    "cross_entropy": cross_entropy,
    "quantize": quantize,
    "dequantize": quantize,
    "quantized_convolution": quantized_convolution,
    "quantized_linear": quantized_linear,
    "quantized_max_pooling": pooling,
    "quantized_global_average_pooling": with_numbers(lambda draw: ([pictures(draw)], {}), 4),
    "quantized_zero_padding_shortcut": with_numbers(shortcut, 1),
    "convolution_backward_input": convolution_backward_input,
    "convolution_backward_weight": convolution_backward_weight,
    "channel_sum": elementwise,
    "linear_backward_input": linear_backward_input,
    "linear_backward_weight": linear_backward_weight,
    "batch_norm_backward": backward(per_channel(3, epsilon=fractions), as_x),
    "batch_norm_training_backward": backward(per_channel(3, epsilon=fractions), as_x),
    "relu_backward": backward(elementwise, as_x),
    "leaky_relu_backward": backward(leaky_relu, as_x),
    "prelu_backward": backward(per_channel(1), as_x),
    "sigmoid_backward": backward(elementwise, as_x),
    "tanh_backward": backward(elementwise, as_x),
    "max_pooling_backward": max_pooling_backward,
    "average_pooling_backward": backward(average_pooling, as_result("average_pooling")),
    "global_average_pooling_backward": backward(
        lambda draw: ([pictures(draw)], {}), as_result("global_average_pooling")
    ),
    "zero_padding_shortcut_backward": shortcut_backward,
    "cross_entropy_backward": cross_entropy,
    "gradient_norm": elementwise,
    "total_norm": lambda draw: ([()] * draw(small), {}),
    "clipping_factor": lambda draw: ([()], {"most": draw(st.sampled_from([1e-3, 1, 7.5]))}),
    "sgd": update,
}


def test_every_operator_is_drawn_and_has_a_meaning() -> None:
    assert DRAWN.keys() == OPERATORS.keys() == MEANINGS.keys()


def element_types(operator: str, shapes: Shapes) -> list[str]:
    listed = OPERATORS[operator].elements
    if operator == "quantized_convolution" and len(shapes) >= 8:
        listed = (*listed, "uint8")  # the shortcut
    return [*listed, *["float32"] * len(shapes)][: len(shapes)]


@pytest.mark.parametrize("operator", OPERATORS)
@given(data=st.data())
@settings(max_examples=60)
def test_what_is_accepted_runs_with_the_shapes_foretold(operator: str, data: st.DataObject) -> None:
    shapes, options = data.draw(st.composite(DRAWN[operator])())
    dtypes = element_types(operator, shapes)
    if operator == "max_pooling_backward" or (
        operator.startswith("cross_entropy") and len(shapes[1]) == 1
    ):
        dtypes[1] = data.draw(st.sampled_from(["int64", "int32"]))
    # Now and then an input that does not fit.
    if data.draw(st.integers(0, 3)) == 3:
        which = data.draw(st.integers(0, len(shapes) - 1))
        if data.draw(st.booleans()):
            shapes[which] = (*shapes[which][:-1], (shapes[which] or (1,))[-1] + 1)
        else:
            dtypes[which] = data.draw(st.sampled_from(["float64", "int64"]))
    most = OPERATORS[operator].outputs[1]
    names = tuple(f"x{index}" for index in range(len(shapes)))
    updates = tuple(names[position] for position in OPERATORS[operator].updates)
    outputs = tuple(f"y{index}" for index in range(most))
    node = make_node(operator, names, outputs, updates=updates, **options)
    check_signature(node)

    filled = np.ones if OPERATORS[operator].elements else np.zeros  # a scale of 0 is none
    arrays = [filled(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    types = [TensorType(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    unknown = [TensorType((None,) * len(shape), d) for shape, d in zip(shapes, dtypes, strict=True)]
    try:
        results = MEANINGS[operator](*arrays, **options)
    except UsageError:
        with pytest.raises(GraphError, match=f"^{operator} '{node.name}': "):
            output_types(node, types)
        return
    results = results if isinstance(results, tuple) else (results,)
    foretold = output_types(node, types)
    assert [(type_.shape, type_.dtype) for type_ in foretold] == [
        (np.shape(result), str(np.asarray(result).dtype)) for result in results[:most]
    ]
    # A size that is not known yet is foretold as unknown, or right.
    unknown[1:] = types[1:]
    for vague, exact in zip(output_types(node, unknown), foretold, strict=True):
        assert vague.dtype == exact.dtype
        for guess, size in zip(vague.shape, exact.shape, strict=True):
            assert guess in (None, size)


@pytest.mark.parametrize(
    ("operator", "name", "value"),
    [
        ("batch_norm", "epsilon", 0),
        ("batch_norm", "epsilon", float("nan")),
        ("batch_norm", "epsilon", 2),
        ("leaky_relu", "slope", float("nan")),
        ("leaky_relu", "slope", float("inf")),
        ("leaky_relu", "slope", 10**400),
        ("leaky_relu", "slope", "0.1"),
        ("leaky_relu", "slope", True),
        ("cross_entropy", "label_smoothing", -0.1),
        ("max_pooling", "kernel", (3, 0)),
        ("average_pooling", "count_include_pad", 1),
        ("transposed_convolution", "output_padding", (0, -1)),
        ("fused_convolution", "activation", "gelu"),
    ],
)
def test_attributes_that_cannot_be(operator: str, name: str, value: Any) -> None:
    accepted = {
        "epsilon": 0.1,
        "slope": 0.1,
        "label_smoothing": 0.1,
        "kernel": (1, 1),
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "output_padding": (0, 0),
        "count_include_pad": True,
        "activation": "relu",
    }
    options = {key: accepted[key] for key in OPERATORS[operator].attributes}
    inputs = tuple(f"x{index}" for index in range(OPERATORS[operator].inputs[0]))
    check_signature(make_node(operator, inputs, ("y",), **options))
    with pytest.raises(GraphError, match=f"is no valid {name}"):
        check_signature(make_node(operator, inputs, ("y",), **{**options, name: value}))


@pytest.mark.parametrize("count", [6, 9])
def test_a_scale_without_a_zero_point(count: int) -> None:
    types = [TensorType((1, 4, 4, 2), "uint8"), TensorType(()), TensorType((2, 1, 1, 2), "int8")]
    types += [TensorType((2,)), TensorType((2,)), *[TensorType(())] * 4]
    window = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    names = tuple(f"x{index}" for index in range(count))
    node = make_node("quantized_convolution", names, ("y",), activation="none", **window)
    check_signature(node)
    with pytest.raises(GraphError, match="a scale or a zero point is missing"):
        output_types(node, types[:count])


def test_sums_that_could_leave_32_bits() -> None:
    types = [TensorType((1, 65794), "uint8"), TensorType(()), TensorType((2, 65794), "int8")]
    types += [TensorType((2,))] * 2
    node = make_node("quantized_linear", tuple("xzwsb"), ("y",))
    with pytest.raises(GraphError, match="65794 products of bytes does not fit 32 bits"):
        output_types(node, types)
    plane = [TensorType((1, 4096, None, 1), "uint8"), *[TensorType(())] * 4]
    node = make_node("quantized_global_average_pooling", tuple("xabcd"), ("y",))
    output_types(node, plane)
    with pytest.raises(GraphError, match="a plane of 4096×4096 bytes does not fit 32 bits"):
        output_types(node, [TensorType((1, 4096, 4096, 1), "uint8"), *plane[1:]])


@pytest.mark.parametrize("operator", ["softmax", "prelu"])
def test_a_number_has_no_channels(operator: str) -> None:
    inputs = tuple(f"x{index}" for index in range(OPERATORS[operator].inputs[0]))
    with pytest.raises(GraphError, match="its first input has no axes"):
        output_types(make_node(operator, inputs, ("y",)), [TensorType(())] * len(inputs))


def test_a_reason_is_told_in_chinese_too() -> None:
    node = make_node("add", ("x", "y"), ("z",))
    with pytest.raises(GraphError) as caught:
        output_types(node, [TensorType((1,)), TensorType((2,))])
    assert "the two shapes differ" in str(caught.value)
    assert "shapes" not in caught.value.message("zh")
    window = {"stride": (1, 1), "padding": (0, 0, 0, 0)}
    node = make_node("max_pooling", ("x",), ("y",), kernel=(3, 3), **window)
    with pytest.raises(GraphError, match="a window of 3×3 pixels does not fit") as caught:
        output_types(node, [TensorType((1, 2, None, 1))])
    assert "window" not in caught.value.message("zh")
