"""Shape rules: from the types of an operator's inputs to the types of its outputs.

A rule raises GraphError where they do not fit; ``None`` stands for a size that is not known yet and
passes through. Where a window lies is asked where it is defined (``reference.geometry``), so that
what verifies also runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, cast

from lushan.errors import GraphError, LushanError, UsageError
from lushan.graph.ir import Node, Shape, TensorType
from lushan.reference.geometry import Window, window
from lushan.reference.pooling import pooling_window

Types: TypeAlias = Sequence[TensorType]
INTEGERS = ("int32", "int64")


def fail(node: Node, reason: LushanError, types: Types) -> GraphError:
    """Return the error of a node whose inputs do not fit, with what it received."""
    return GraphError(
        "{operator} {name!r}: {reason}; it received {types}",
        operator=node.operator,
        name=node.name,
        reason=reason,
        types=", ".join(str(type_) for type_ in types),
    )


@contextmanager
def refusals_named(node: Node, types: Types) -> Iterator[None]:
    """Tell what ``lushan.reference`` refuses as an error of the node."""
    try:
        yield
    except UsageError as error:
        raise fail(node, error, types) from None


def _differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def require(node: Node, types: Types, *expected: Shape) -> None:
    """Check that each type has the expected shape; ``None`` in ``expected`` accepts any size."""
    for type_, shape in zip(types, expected, strict=False):
        if len(type_.shape) != len(shape) or any(
            _differ(a, b) for a, b in zip(type_.shape, shape, strict=True)
        ):
            wanted = GraphError(
                "an input should be {type}", type=str(TensorType(shape, type_.dtype))
            )
            raise fail(node, wanted, types)


def require_elements(node: Node, types: Types, *expected: str) -> None:
    """Check that the inputs have the expected element types, as far as these go."""
    if any(type_.dtype != dtype for type_, dtype in zip(types, expected, strict=False)):
        wanted = GraphError(
            "its inputs should have elements of {expected}", expected=", ".join(expected)
        )
        raise fail(node, wanted, types)


def channels(node: Node, types: Types) -> int | None:
    """Return the last size of the first input, which needs at least one axis."""
    if not types[0].shape:
        raise fail(node, GraphError("its first input has no axes"), types)
    return types[0].shape[-1]


def kernel(node: Node, types: Types) -> tuple[int, int, int, int]:
    """Return the shape of the weight of a convolution, all of which must be known."""
    require(node, types, (None,) * 4, (None,) * 4)
    a, kh, kw, b = types[1].shape
    if a is None or kh is None or kw is None or b is None:
        raise fail(node, GraphError("the shape of its weight is not known"), types)
    return a, kh, kw, b


def window_of(node: Node, kernel: tuple[int, int]) -> Window:
    """Return the window that a convolution slides; ``kernel`` is its height and width."""
    options = node.options
    return window(
        kernel,
        stride=cast("tuple[int, int]", options["stride"]),
        padding=cast("tuple[int, int, int, int]", options["padding"]),
        dilation=cast("tuple[int, int]", options["dilation"]),
    )


def convolution(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, H, W, IC], weight [OC, KH, KW, IC/G][, bias] to [N, HO, WO, OC]."""
    oc, kh, kw, per_group = kernel(node, types)
    require(node, types[2:3], (oc,))
    n, h, w, channels = types[0].shape
    groups = cast("int", node.options["groups"])
    if _differ(channels, per_group * groups) or oc % groups:
        raise _wrong_groups(node, types)
    size = window_of(node, (kh, kw)).output_size(h, w)
    return [TensorType((n, *size, oc), types[0].dtype)]


def _wrong_groups(node: Node, types: Types) -> GraphError:
    reason = GraphError(
        "channels do not fit its weight in {groups} group(s)", groups=node.options["groups"]
    )
    return fail(node, reason, types)


def fused_convolution(node: Node, types: Types) -> list[TensorType]:
    """Map the same, and a shortcut of the shape of the result, to the same."""
    result = convolution(node, types)
    if len(types) == 4:
        add(node, [result[0], types[3]])
    return result


def transposed_convolution(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, H, W, IC], weight [IC, KH, KW, OC/G][, bias] to [N, HO, WO, OC]."""
    ic, kh, kw, per_group = kernel(node, types)
    n, h, w, channels = types[0].shape
    options = node.options
    groups = cast("int", options["groups"])
    require(node, types[2:], (per_group * groups,))
    if _differ(channels, ic) or ic % groups:
        raise _wrong_groups(node, types)
    extra = cast("tuple[int, int]", options["output_padding"])
    size = window_of(node, (kh, kw)).transposed_size(h, w, extra)
    return [TensorType((n, *size, per_group * groups), types[0].dtype)]


def pooling(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, H, W, C] to [N, HO, WO, C], and the switches of that shape."""
    require(node, types, (None,) * 4)
    n, h, w, c = types[0].shape
    slide = pooling_window(
        cast("tuple[int, int]", node.options["kernel"]),
        cast("tuple[int, int]", node.options["stride"]),
        cast("tuple[int, int, int, int]", node.options["padding"]),
    )
    shape = (n, *slide.output_size(h, w), c)
    return [TensorType(shape, types[0].dtype), TensorType(shape, "int64")]


def global_average_pooling(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, H, W, C] to [N, C]."""
    require(node, types, (None,) * 4)
    n, _, _, c = types[0].shape
    return [TensorType((n, c), types[0].dtype)]


def same(node: Node, types: Types) -> list[TensorType]:
    """Map x to the same."""
    return [types[0]]


def softmax(node: Node, types: Types) -> list[TensorType]:
    """Map x [..., K] to the same."""
    channels(node, types)
    return [types[0]]


def prelu(node: Node, types: Types) -> list[TensorType]:
    """Map x [..., C], slopes [C] to the same as x."""
    require(node, types[1:], (channels(node, types),))
    return [types[0]]


def batch_norm(node: Node, types: Types) -> list[TensorType]:
    """Map x [..., C] and four parameters [C] to the same as x."""
    require(node, types[1:], *((channels(node, types),),) * 4)
    return [types[0]]


def batch_norm_training(node: Node, types: Types) -> list[TensorType]:
    """Map the same, of more than one pixel, to x and its mean and variance [C]."""
    batch_norm(node, types)
    *pixels, channels = types[0].shape
    if math.prod(2 if size is None else size for size in pixels) < 2:
        raise fail(node, GraphError("one pixel has no variance"), types)
    statistics = TensorType((channels,), types[0].dtype)
    return [types[0], statistics, statistics]


def add(node: Node, types: Types) -> list[TensorType]:
    """Map two of one shape to the same."""
    a, b = types
    if len(a.shape) != len(b.shape) or any(
        _differ(m, n) for m, n in zip(a.shape, b.shape, strict=True)
    ):
        raise fail(node, GraphError("the two shapes differ"), types)
    merged = tuple(n if m is None else m for m, n in zip(a.shape, b.shape, strict=True))
    return [TensorType(merged, a.dtype)]


def zero_padding_shortcut(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, H, W, C] to [N, ceil(H/stride), ceil(W/stride), channels]."""
    require(node, types, (None,) * 4)
    return [widened(node, types[0], cast("int", node.options["channels"]), types)]


def widened(node: Node, x: TensorType, channels: int | None, types: Types) -> TensorType:
    """Return what a zero-padding shortcut makes of x; ``types`` are what the node received."""
    n, h, w, c = x.shape
    stride = cast("int", node.options["stride"])
    if c is not None and channels is not None and channels < c:
        reason = GraphError("it cannot shrink to {channels} channels", channels=channels)
        raise fail(node, reason, types)
    sizes = [None if size is None else -(-size // stride) for size in (h, w)]
    return TensorType((n, *sizes, channels), x.dtype)


def linear(node: Node, types: Types) -> list[TensorType]:
    """Map x [N, IC], weight [OC, IC][, bias] to [N, OC]."""
    require(node, types, (None, None), (None, None))
    (n, features), oc = types[0].shape, types[1].shape[0]
    require(node, types[1:], (oc, features), (oc,))
    return [TensorType((n, oc), types[0].dtype)]


def cross_entropy(node: Node, types: Types) -> list[TensorType]:
    """Accept a target of class indices [N], or of distributions [N, K]."""
    require(node, types, (None, None))
    n, classes = types[0].shape
    require(node, types[1:], (n,) if types[1].dtype in INTEGERS else (n, classes))
    return [TensorType((), types[0].dtype)]
