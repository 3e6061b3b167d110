"""Shape rules of the operators on bytes, which have element types of their own.

A scale or a zero point is a single number (shape ``[]``), or one for each channel where the picture
itself may be read. See ``shape_rules``.
"""

from __future__ import annotations

from lushan.errors import GraphError
from lushan.graph import shape_rules as rules
from lushan.graph.ir import Node, TensorType
from lushan.graph.shape_rules import Types
from lushan.reference.quantized_pooling import check_plane
from lushan.reference.requantization import exact_type


def quantize(node: Node, types: Types) -> list[TensorType]:
    """Map x float32 [..., C], scale, zero point to bytes of the shape of x."""
    _check_per_channel(node, types, 1, 2)
    return [TensorType(types[0].shape, "uint8")]


def dequantize(node: Node, types: Types) -> list[TensorType]:
    """Map x bytes [..., C], scale, zero point to float32 of the shape of x."""
    _check_per_channel(node, types, 1, 2)
    return [TensorType(types[0].shape, "float32")]


def quantized_convolution(node: Node, types: Types) -> list[TensorType]:
    """Return bytes where the inputs end with a scale and a zero point for them, else float32."""
    has_shortcut, gives_bytes = convolution_ends(node, types)
    x, _, weight, scale, bias, *ends = types
    [result] = rules.convolution(node, [x, weight, bias])
    _check_per_channel(node, types, 1)
    rules.require(node, [scale], result.shape[-1:])
    _, kh, kw, per_group = rules.kernel(node, [x, weight])
    exact_type(kh * kw * per_group)
    if has_shortcut:
        shortcut = ends.pop(0)
        rules.require_elements(node, [shortcut], "uint8")
        rules.add(node, [result, shortcut])
    _check_numbers(node, ends)
    return [TensorType(result.shape, "uint8" if gives_bytes else "float32")]


def convolution_ends(node: Node, types: Types) -> tuple[bool, bool]:
    """Return whether a quantised convolution has a shortcut, and whether it gives bytes."""
    ends = {5: (False, False), 7: (False, True), 8: (True, False), 10: (True, True)}
    if len(types) not in ends:
        raise rules.fail(node, GraphError("a scale or a zero point is missing"), types)
    return ends[len(types)]


def quantized_linear(node: Node, types: Types) -> list[TensorType]:
    """Map x bytes [N, IC], its zero point, weight, its scale, bias to float32 [N, OC]."""
    x, _, weight, scale, bias = types
    [result] = rules.linear(node, [x, weight, bias])
    _check_per_channel(node, types, 1)
    rules.require(node, [scale], result.shape[-1:])
    exact_type(weight.shape[1] or 0)
    return [TensorType(result.shape, "float32")]


def quantized_max_pooling(node: Node, types: Types) -> list[TensorType]:
    """Map x bytes [N, H, W, C] to bytes [N, HO, WO, C]."""
    return rules.pooling(node, types)[:1]


def quantized_global_average_pooling(node: Node, types: Types) -> list[TensorType]:
    """Map x bytes [N, H, W, C], parameters of x and y to bytes [N, C]."""
    result = rules.global_average_pooling(node, types[:1])
    _check_numbers(node, types[1:])
    _, h, w, _ = types[0].shape
    check_plane(h or 1, w or 1)
    return result


def quantized_zero_padding_shortcut(node: Node, types: Types) -> list[TensorType]:
    """Map x bytes, its zero point to bytes; see ``shape_rules``."""
    _check_numbers(node, types[1:])
    return rules.zero_padding_shortcut(node, types[:1])


def _check_per_channel(node: Node, types: Types, *positions: int) -> None:
    """Check parameters that are a number, or one for each channel of the first input."""
    channels = rules.channels(node, types)
    for position in positions:
        if types[position].shape:
            rules.require(node, types[position:], (channels,))


def _check_numbers(node: Node, types: Types) -> None:
    rules.require_elements(node, types, *["float32"] * len(types))
    rules.require(node, types, *[()] * len(types))
