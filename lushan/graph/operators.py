"""The operators of the representation: what each takes, what it gives, and its shape rule.

One table, ``OPERATORS``, from name to signature; the rules are in ``shape_rules``,
``gradient_shape_rules`` and ``quantized_shape_rules``. Tensors are NHWC, convolution weights
[OC, KH, KW, IC/groups]. What an operator computes is the function of the same name in
``lushan.reference``; what verifies here runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias, cast

from lushan.errors import GraphError
from lushan.graph import gradient_shape_rules as gradients
from lushan.graph import quantized_shape_rules as quantized
from lushan.graph import shape_rules as rules
from lushan.graph.ir import Attribute, Node, TensorType
from lushan.graph.shape_rules import INTEGERS, Types
from lushan.record import field, record
from lushan.reference.requantization import ACTIVATIONS

ShapeRule: TypeAlias = Callable[[Node, Types], list[TensorType]]
AttributeCheck: TypeAlias = Callable[[Attribute], bool]

FLOATS = ("float16", "float32", "float64")
BYTES = ("uint8", "int8")  # of quantised networks
_LARGEST = 3.4e38  # the largest numbers of float32
_ANY = 2**31  # inputs


@record
class Operator:
    """The signature of an operator: counts as (least, most), and its attributes with checks.

    ``updates`` are the positions of the inputs that it writes in place, in the order of the new
    values. Inputs are of one float type; only those at the positions ``indices`` may be integers.
    An operator on bytes has an element type for each of its inputs, ``elements``; that of optional
    inputs is the business of the shape rule.
    """

    inputs: tuple[int, int]
    shapes: ShapeRule
    attributes: Mapping[str, AttributeCheck] = field(default_factory=dict)
    outputs: tuple[int, int] = (1, 1)
    updates: tuple[int, ...] = ()
    indices: tuple[int, ...] = ()
    elements: tuple[str, ...] = ()


def output_types(node: Node, types: Types) -> tuple[TensorType, ...]:
    """Return the types of what ``node`` gives for inputs of ``types``; its signature is sound.

    Raises GraphError when element types are mixed or the shape rule is broken.
    """
    return _output_types(node, tuple(types))


@lru_cache(maxsize=2048)  # passes leave most nodes alone, and a graph is verified after each
def _output_types(node: Node, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    operator = OPERATORS[node.operator]
    if operator.elements:
        rules.require_elements(node, types, *operator.elements)
    else:
        floats = [
            type_.dtype
            for position, type_ in enumerate(types)
            if not (position in operator.indices and type_.dtype in INTEGERS)
        ]
        if floats[0] not in FLOATS or len(set(floats)) > 1:
            raise rules.fail(node, GraphError("its inputs should be of one float type"), types)
    # What a function of ``reference`` refuses, it refuses in the words of that function.
    with rules.refusals_named(node, types):
        return tuple(operator.shapes(node, types)[: len(node.outputs)])


# --- attribute checks -----------------------------------------------------------------------------


def _integers(value: Attribute, count: int, least: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(type(n) is int and n >= least for n in value)
    )


def _pair(value: Attribute) -> bool:
    return _integers(value, 2, 1)


def _pair_or_zero(value: Attribute) -> bool:
    return _integers(value, 2, 0)


def _sides(value: Attribute) -> bool:
    return _integers(value, 4, 0)


def _positive_integer(value: Attribute) -> bool:
    return type(value) is int and value >= 1


def _number(value: Attribute) -> bool:
    return type(value) in (int, float) and abs(cast("float", value)) <= _LARGEST  # a NaN is not


def _positive_number(value: Attribute) -> bool:
    return _number(value) and cast("float", value) > 0


def _fraction(value: Attribute) -> bool:
    return _number(value) and 0 <= cast("float", value) <= 1


def _positive_fraction(value: Attribute) -> bool:
    return _fraction(value) and cast("float", value) > 0


def _fusable(value: Attribute) -> bool:
    return value in ("none", "relu", "leaky_relu", "sigmoid", "tanh")


def _quantized_activation(value: Attribute) -> bool:
    return value in ACTIVATIONS


def _flag(value: Attribute) -> bool:
    return type(value) is bool


_CONVOLUTION: dict[str, AttributeCheck] = {
    "stride": _pair,
    "padding": _sides,
    "dilation": _pair,
    "groups": _positive_integer,
}
_POOLING: dict[str, AttributeCheck] = {"kernel": _pair, "stride": _pair, "padding": _sides}
_ZERO_PADDING: dict[str, AttributeCheck] = {
    "stride": _positive_integer,
    "channels": _positive_integer,
}
_NORMALISATION: dict[str, AttributeCheck] = {"epsilon": _positive_fraction}
_SMOOTHING: dict[str, AttributeCheck] = {"label_smoothing": _fraction}
_WEIGHTED = ("uint8", "float32", "int8", "float32", "float32")

OPERATORS: Mapping[str, Operator] = {
    "convolution": Operator((2, 3), rules.convolution, _CONVOLUTION),
    "fused_convolution": Operator(
        (3, 4), rules.fused_convolution, {**_CONVOLUTION, "activation": _fusable, "slope": _number}
    ),
    "transposed_convolution": Operator(
        (2, 3), rules.transposed_convolution, {**_CONVOLUTION, "output_padding": _pair_or_zero}
    ),
    "batch_norm": Operator((5, 5), rules.batch_norm, _NORMALISATION),
    "batch_norm_training": Operator(
        (5, 5),
        rules.batch_norm_training,
        {**_NORMALISATION, "momentum": _fraction},
        outputs=(3, 3),
        updates=(3, 4),  # running mean and variance
    ),
    "relu": Operator((1, 1), rules.same),
    "leaky_relu": Operator((1, 1), rules.same, {"slope": _number}),
    "prelu": Operator((2, 2), rules.prelu),
    "sigmoid": Operator((1, 1), rules.same),
    "tanh": Operator((1, 1), rules.same),
    "max_pooling": Operator((1, 1), rules.pooling, _POOLING, outputs=(1, 2)),
    "average_pooling": Operator((1, 1), rules.pooling, {**_POOLING, "count_include_pad": _flag}),
    "global_average_pooling": Operator((1, 1), rules.global_average_pooling),
    "add": Operator((2, 2), rules.add),
    "zero_padding_shortcut": Operator((1, 1), rules.zero_padding_shortcut, _ZERO_PADDING),
    "linear": Operator((2, 3), rules.linear),
    "softmax": Operator((1, 1), rules.softmax),
    "cross_entropy": Operator((2, 2), rules.cross_entropy, _SMOOTHING, indices=(1,)),
    # grad_y, weight, x
    "convolution_backward_input": Operator(
        (3, 3), gradients.convolution_backward_input, _CONVOLUTION
    ),
    # grad_y, x
    "convolution_backward_weight": Operator(
        (2, 2), gradients.convolution_backward_weight, {**_CONVOLUTION, "kernel": _pair}
    ),
    "channel_sum": Operator((1, 1), gradients.channel_sum),
    "linear_backward_input": Operator((2, 2), gradients.linear_backward_input),  # grad_y, weight
    "linear_backward_weight": Operator((2, 2), gradients.linear_backward_weight),  # grad_y, x
    # grad_y, x, weight, mean, variance → gradients of x, weight, bias
    "batch_norm_backward": Operator(
        (5, 5), gradients.batch_norm_backward, _NORMALISATION, outputs=(3, 3)
    ),
    "batch_norm_training_backward": Operator(
        (5, 5), gradients.batch_norm_backward, _NORMALISATION, outputs=(3, 3)
    ),
    "relu_backward": Operator((2, 2), gradients.same_shape),  # grad_y, x or y
    "leaky_relu_backward": Operator((2, 2), gradients.same_shape, {"slope": _number}),  # grad_y, x
    "prelu_backward": Operator((3, 3), gradients.prelu_backward, outputs=(2, 2)),  # …, x, slope
    "sigmoid_backward": Operator((2, 2), gradients.same_shape),  # grad_y, y
    "tanh_backward": Operator((2, 2), gradients.same_shape),  # grad_y, y
    "max_pooling_backward": Operator(  # grad_y, switches, x
        (3, 3), gradients.max_pooling_backward, indices=(1,)
    ),
    # grad_y, x
    "average_pooling_backward": Operator(
        (2, 2), gradients.average_pooling_backward, {**_POOLING, "count_include_pad": _flag}
    ),
    "global_average_pooling_backward": Operator((2, 2), gradients.global_average_pooling_backward),
    "zero_padding_shortcut_backward": Operator(
        (2, 2), gradients.zero_padding_shortcut_backward, {"stride": _positive_integer}
    ),
    # scores, target
    "cross_entropy_backward": Operator(
        (2, 2), gradients.cross_entropy_backward, _SMOOTHING, indices=(1,)
    ),
    "gradient_norm": Operator((1, 1), gradients.number),
    "total_norm": Operator((1, _ANY), gradients.numbers),
    "clipping_factor": Operator((1, 1), gradients.numbers, {"most": _positive_number}),
    # parameter, velocity, gradient, learning rate, momentum, weight decay[, factor]
    "sgd": Operator((6, 7), gradients.sgd, {"nesterov": _flag}, outputs=(0, 0), updates=(0, 1)),
    # x, scale, zero point
    "quantize": Operator((3, 3), quantized.quantize, elements=("float32",) * 3),
    "dequantize": Operator((3, 3), quantized.dequantize, elements=("uint8", "float32", "float32")),
    # x, its zero point, weight, weight scale, bias[, shortcut, its scale, its zero point]
    # [, scale and zero point of y, which is float32 without them]
    "quantized_convolution": Operator(
        (5, 10),
        quantized.quantized_convolution,
        {**_CONVOLUTION, "activation": _quantized_activation},
        elements=_WEIGHTED,
    ),
    # x, its zero point, weight, weight scale, bias
    "quantized_linear": Operator((5, 5), quantized.quantized_linear, elements=_WEIGHTED),
    "quantized_max_pooling": Operator(
        (1, 1), quantized.quantized_max_pooling, _POOLING, elements=("uint8",)
    ),
    # x, its scale and zero point, those of y
    "quantized_global_average_pooling": Operator(
        (5, 5),
        quantized.quantized_global_average_pooling,
        elements=("uint8", *("float32",) * 4),
    ),
    # x, its zero point
    "quantized_zero_padding_shortcut": Operator(
        (2, 2),
        quantized.quantized_zero_padding_shortcut,
        _ZERO_PADDING,
        elements=("uint8", "float32"),
    ),
}
