"""The operators of the representation: what each takes, what it gives, and its shape rule.

One table, ``OPERATORS``, from name to signature. A shape rule maps the types of the inputs to the
types of the outputs and raises GraphError when they do not fit; ``None`` stands for a size that is
not known yet and passes through. Tensors are NHWC, convolution weights [OC, KH, KW, IC/groups].
What an operator computes is the function of the same name in ``lushan.reference``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from lushan.errors import GraphError
from lushan.graph.ir import Attribute, Node, Shape, TensorType

Types: TypeAlias = Sequence[TensorType]
ShapeRule: TypeAlias = Callable[[Node, Types], list[TensorType]]
AttributeCheck: TypeAlias = Callable[[Attribute], bool]


@dataclass(frozen=True)
class Operator:
    """The signature of an operator: counts as (least, most), and its attributes with checks."""

    inputs: tuple[int, int]
    shapes: ShapeRule
    attributes: Mapping[str, AttributeCheck] = field(default_factory=dict)
    outputs: tuple[int, int] = (1, 1)
    updates: int = 0


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
    return type(value) in (int, float)


def _fraction(value: Attribute) -> bool:
    return _number(value) and 0 <= cast("float", value) <= 1


def _fusable(value: Attribute) -> bool:
    return value in ("none", "relu", "leaky_relu", "sigmoid", "tanh")


def _flag(value: Attribute) -> bool:
    return type(value) is bool


# --- shape rules ----------------------------------------------------------------------------------


def _fail(node: Node, reason: str, types: Types) -> GraphError:
    return GraphError(
        "{operator} {name!r}: {reason}; it received {types}",
        operator=node.operator,
        name=node.name,
        reason=reason,
        types=", ".join(str(type_) for type_ in types),
    )


def _differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def _require(node: Node, types: Types, *expected: Shape) -> None:
    """Check that each type has the expected shape; ``None`` in ``expected`` accepts any size."""
    for type_, shape in zip(types, expected, strict=False):
        if len(type_.shape) != len(shape) or any(
            _differ(a, b) for a, b in zip(type_.shape, shape, strict=True)
        ):
            wanted = str(TensorType(shape, type_.dtype))
            raise _fail(node, f"an input should be {wanted}", types)


def _windows(
    node: Node,
    size: tuple[int | None, int | None],
    kernel: tuple[int, int],
    types: Types,
) -> tuple[int | None, int | None]:
    """Return how many positions a sliding window has in height and width."""
    options = node.options
    top, bottom, left, right = cast("tuple[int, int, int, int]", options["padding"])
    stride = cast("tuple[int, int]", options["stride"])
    dilation = cast("tuple[int, int]", options.get("dilation", (1, 1)))
    counts: list[int | None] = []
    for axis, border in enumerate((top + bottom, left + right)):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        length = size[axis]
        if length is None:
            counts.append(None)
            continue
        if length + border < extent:
            raise _fail(node, f"a window of {extent} does not fit into {length} + {border}", types)
        counts.append((length + border - extent) // stride[axis] + 1)
    return counts[0], counts[1]


def _convolution(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4, (None,) * 4, (types[1].shape[0],))
    n, h, w, channels = types[0].shape
    oc, kh, kw, per_group = types[1].shape
    groups = cast("int", node.options["groups"])
    if oc is None or kh is None or kw is None or per_group is None:
        raise _fail(node, "the shape of its weight is not known", types)
    if _differ(channels, per_group * groups) or oc % groups:
        raise _fail(node, f"channels do not fit its weight in {groups} group(s)", types)
    return [TensorType((n, *_windows(node, (h, w), (kh, kw), types), oc), types[0].dtype)]


def _fused_convolution(node: Node, types: Types) -> list[TensorType]:
    result = _convolution(node, types)
    if len(types) == 4:
        _add(node, [result[0], types[3]])
    return result


def _transposed_convolution(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4, (types[0].shape[-1], None, None, None))
    n, h, w, _ = types[0].shape
    _, kh, kw, per_group = types[1].shape
    options = node.options
    groups = cast("int", options["groups"])
    if kh is None or kw is None or per_group is None:
        raise _fail(node, "the shape of its weight is not known", types)
    _require(node, types[2:], (per_group * groups,))
    top, bottom, left, right = cast("tuple[int, int, int, int]", options["padding"])
    stride = cast("tuple[int, int]", options["stride"])
    dilation = cast("tuple[int, int]", options["dilation"])
    extra = cast("tuple[int, int]", options["output_padding"])
    sizes = [
        None
        if size is None
        else (size - 1) * stride[i] + dilation[i] * (k - 1) + 1 + extra[i] - border
        for i, (size, k, border) in enumerate(((h, kh, top + bottom), (w, kw, left + right)))
    ]
    if any(size is not None and size < 1 for size in sizes):
        raise _fail(node, f"its padding {options['padding']} leaves nothing", types)
    return [TensorType((n, *sizes, per_group * groups), types[0].dtype)]


def _pooling(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, h, w, c = types[0].shape
    kernel = cast("tuple[int, int]", node.options["kernel"])
    top, bottom, left, right = cast("tuple[int, int, int, int]", node.options["padding"])
    if max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        raise _fail(node, f"its padding is not smaller than its kernel {kernel}", types)
    shape = (n, *_windows(node, (h, w), kernel, types), c)
    return [TensorType(shape, types[0].dtype), TensorType(shape, "int64")][: len(node.outputs)]


def _global_average_pooling(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, _, _, c = types[0].shape
    return [TensorType((n, c), types[0].dtype)]


def _same(node: Node, types: Types) -> list[TensorType]:
    return [types[0]]


def _prelu(node: Node, types: Types) -> list[TensorType]:
    _require(node, types[1:], (types[0].shape[-1],))
    return [types[0]]


def _batch_norm(node: Node, types: Types) -> list[TensorType]:
    per_channel = (types[0].shape[-1],)
    _require(node, types[1:], *(per_channel,) * 4)
    return [types[0]]


def _batch_norm_training(node: Node, types: Types) -> list[TensorType]:
    per_channel = (types[0].shape[-1],)
    _require(node, types[1:], *(per_channel,) * 4)
    statistics = TensorType(per_channel, types[0].dtype)
    return [types[0], statistics, statistics]


def _add(node: Node, types: Types) -> list[TensorType]:
    a, b = types
    if len(a.shape) != len(b.shape) or any(
        _differ(m, n) for m, n in zip(a.shape, b.shape, strict=True)
    ):
        raise _fail(node, "the two shapes differ", types)
    merged = tuple(n if m is None else m for m, n in zip(a.shape, b.shape, strict=True))
    return [TensorType(merged, a.dtype)]


def _zero_padding_shortcut(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, h, w, c = types[0].shape
    stride = cast("int", node.options["stride"])
    channels = cast("int", node.options["channels"])
    if c is not None and channels < c:
        raise _fail(node, f"it cannot shrink to {channels} channels", types)
    sizes = [None if size is None else -(-size // stride) for size in (h, w)]
    return [TensorType((n, *sizes, channels), types[0].dtype)]


def _linear(node: Node, types: Types) -> list[TensorType]:
    n, features = (*types[0].shape, None, None)[:2]
    oc = types[1].shape[0]
    _require(node, types, (n, features), (oc, features), (oc,))
    return [TensorType((n, oc), types[0].dtype)]


def _cross_entropy(node: Node, types: Types) -> list[TensorType]:
    n = types[0].shape[0]
    _require(node, types, (n, None), (n,))
    return [TensorType((), types[0].dtype)]


_CONVOLUTION: dict[str, AttributeCheck] = {
    "stride": _pair,
    "padding": _sides,
    "dilation": _pair,
    "groups": _positive_integer,
}
_POOLING: dict[str, AttributeCheck] = {"kernel": _pair, "stride": _pair, "padding": _sides}

OPERATORS: Mapping[str, Operator] = {
    "convolution": Operator((2, 3), _convolution, _CONVOLUTION),
    "fused_convolution": Operator(
        (3, 4), _fused_convolution, {**_CONVOLUTION, "activation": _fusable, "slope": _number}
    ),
    "transposed_convolution": Operator(
        (2, 3), _transposed_convolution, {**_CONVOLUTION, "output_padding": _pair_or_zero}
    ),
    "batch_norm": Operator((5, 5), _batch_norm, {"epsilon": _fraction}),
    "batch_norm_training": Operator(
        (5, 5),
        _batch_norm_training,
        {"epsilon": _fraction, "momentum": _fraction},
        outputs=(3, 3),
        updates=2,
    ),
    "relu": Operator((1, 1), _same),
    "leaky_relu": Operator((1, 1), _same, {"slope": _number}),
    "prelu": Operator((2, 2), _prelu),
    "sigmoid": Operator((1, 1), _same),
    "tanh": Operator((1, 1), _same),
    "max_pooling": Operator((1, 1), _pooling, _POOLING, outputs=(1, 2)),
    "average_pooling": Operator((1, 1), _pooling, {**_POOLING, "count_include_pad": _flag}),
    "global_average_pooling": Operator((1, 1), _global_average_pooling),
    "add": Operator((2, 2), _add),
    "zero_padding_shortcut": Operator(
        (1, 1), _zero_padding_shortcut, {"stride": _positive_integer, "channels": _positive_integer}
    ),
    "linear": Operator((2, 3), _linear),
    "softmax": Operator((1, 1), _same),
    "cross_entropy": Operator((2, 2), _cross_entropy, {"label_smoothing": _fraction}),
}
