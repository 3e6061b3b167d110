"""The operators of the representation: what each takes, what it gives, and its shape rule.

One table, ``OPERATORS``, from name to signature. A shape rule maps the types of the inputs to the
types of the outputs and raises GraphError when they do not fit; ``None`` stands for a size that is
not known yet and passes through. Tensors are NHWC, convolution weights [OC, KH, KW, IC/groups].
What an operator computes is the function of the same name in ``lushan.reference``; what verifies
here runs there. Where a window lies is therefore asked there too (``reference.geometry``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from lushan.errors import GraphError, LushanError, UsageError
from lushan.graph.ir import Attribute, Node, Shape, TensorType
from lushan.reference.geometry import Window, window
from lushan.reference.pooling import pooling_window

Types: TypeAlias = Sequence[TensorType]
ShapeRule: TypeAlias = Callable[[Node, Types], list[TensorType]]
AttributeCheck: TypeAlias = Callable[[Attribute], bool]

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int32", "int64")
_LARGEST = 3.4e38  # the largest numbers of float32


@dataclass(frozen=True)
class Operator:
    """The signature of an operator: counts as (least, most), and its attributes with checks.

    ``updates`` are the positions of the inputs that it writes in place, in the order of the new
    values. Inputs are of one float type; only those at the positions ``indices`` may be integers.
    """

    inputs: tuple[int, int]
    shapes: ShapeRule
    attributes: Mapping[str, AttributeCheck] = field(default_factory=dict)
    outputs: tuple[int, int] = (1, 1)
    updates: tuple[int, ...] = ()
    indices: tuple[int, ...] = ()


def output_types(node: Node, types: Types) -> list[TensorType]:
    """Return the types of what ``node`` gives for inputs of ``types``; its signature is sound.

    Raises GraphError when element types are mixed or the shape rule is broken.
    """
    operator = OPERATORS[node.operator]
    floats = [
        type_.dtype
        for position, type_ in enumerate(types)
        if not (position in operator.indices and type_.dtype in INTEGERS)
    ]
    if floats[0] not in FLOATS or len(set(floats)) > 1:
        raise _fail(node, GraphError("its inputs should be of one float type"), types)
    # What a function of ``reference`` refuses, it refuses in the words of that function.
    with _refusals_named(node, types):
        return operator.shapes(node, types)[: len(node.outputs)]


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


def _fraction(value: Attribute) -> bool:
    return _number(value) and 0 <= cast("float", value) <= 1


def _positive_fraction(value: Attribute) -> bool:
    return _fraction(value) and cast("float", value) > 0


def _fusable(value: Attribute) -> bool:
    return value in ("none", "relu", "leaky_relu", "sigmoid", "tanh")


def _flag(value: Attribute) -> bool:
    return type(value) is bool


# --- shape rules ----------------------------------------------------------------------------------


def _fail(node: Node, reason: LushanError, types: Types) -> GraphError:
    return GraphError(
        "{operator} {name!r}: {reason}; it received {types}",
        operator=node.operator,
        name=node.name,
        reason=reason,
        types=", ".join(str(type_) for type_ in types),
    )


@contextmanager
def _refusals_named(node: Node, types: Types) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise _fail(node, error, types) from None


def _differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def _require(node: Node, types: Types, *expected: Shape) -> None:
    """Check that each type has the expected shape; ``None`` in ``expected`` accepts any size."""
    for type_, shape in zip(types, expected, strict=False):
        if len(type_.shape) != len(shape) or any(
            _differ(a, b) for a, b in zip(type_.shape, shape, strict=True)
        ):
            wanted = GraphError(
                "an input should be {type}", type=str(TensorType(shape, type_.dtype))
            )
            raise _fail(node, wanted, types)


def _channels(node: Node, types: Types) -> int | None:
    """Return the last size of the first input, which needs at least one axis."""
    if not types[0].shape:
        raise _fail(node, GraphError("its first input has no axes"), types)
    return types[0].shape[-1]


def _kernel(node: Node, types: Types) -> tuple[int, int, int, int]:
    """Return the shape of the weight of a convolution, all of which must be known."""
    _require(node, types, (None,) * 4, (None,) * 4)
    a, kh, kw, b = types[1].shape
    if a is None or kh is None or kw is None or b is None:
        raise _fail(node, GraphError("the shape of its weight is not known"), types)
    return a, kh, kw, b


def _window(node: Node, kernel: tuple[int, int]) -> Window:
    options = node.options
    return window(
        kernel,
        stride=cast("tuple[int, int]", options["stride"]),
        padding=cast("tuple[int, int, int, int]", options["padding"]),
        dilation=cast("tuple[int, int]", options["dilation"]),
    )


def _convolution(node: Node, types: Types) -> list[TensorType]:
    oc, kh, kw, per_group = _kernel(node, types)
    _require(node, types[2:3], (oc,))
    n, h, w, channels = types[0].shape
    groups = cast("int", node.options["groups"])
    if _differ(channels, per_group * groups) or oc % groups:
        raise _wrong_groups(node, types)
    size = _window(node, (kh, kw)).output_size(h, w)
    return [TensorType((n, *size, oc), types[0].dtype)]


def _wrong_groups(node: Node, types: Types) -> GraphError:
    reason = GraphError(
        "channels do not fit its weight in {groups} group(s)", groups=node.options["groups"]
    )
    return _fail(node, reason, types)


def _fused_convolution(node: Node, types: Types) -> list[TensorType]:
    result = _convolution(node, types)
    if len(types) == 4:
        _add(node, [result[0], types[3]])
    return result


def _transposed_convolution(node: Node, types: Types) -> list[TensorType]:
    ic, kh, kw, per_group = _kernel(node, types)
    n, h, w, channels = types[0].shape
    options = node.options
    groups = cast("int", options["groups"])
    _require(node, types[2:], (per_group * groups,))
    if _differ(channels, ic) or ic % groups:
        raise _wrong_groups(node, types)
    extra = cast("tuple[int, int]", options["output_padding"])
    size = _window(node, (kh, kw)).transposed_size(h, w, extra)
    return [TensorType((n, *size, per_group * groups), types[0].dtype)]


def _pooling(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, h, w, c = types[0].shape
    slide = pooling_window(
        cast("tuple[int, int]", node.options["kernel"]),
        cast("tuple[int, int]", node.options["stride"]),
        cast("tuple[int, int, int, int]", node.options["padding"]),
    )
    shape = (n, *slide.output_size(h, w), c)
    return [TensorType(shape, types[0].dtype), TensorType(shape, "int64")]


def _global_average_pooling(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, _, _, c = types[0].shape
    return [TensorType((n, c), types[0].dtype)]


def _same(node: Node, types: Types) -> list[TensorType]:
    return [types[0]]


def _softmax(node: Node, types: Types) -> list[TensorType]:
    _channels(node, types)
    return [types[0]]


def _prelu(node: Node, types: Types) -> list[TensorType]:
    _require(node, types[1:], (_channels(node, types),))
    return [types[0]]


def _batch_norm(node: Node, types: Types) -> list[TensorType]:
    _require(node, types[1:], *((_channels(node, types),),) * 4)
    return [types[0]]


def _batch_norm_training(node: Node, types: Types) -> list[TensorType]:
    _batch_norm(node, types)
    *pixels, channels = types[0].shape
    if math.prod(2 if size is None else size for size in pixels) < 2:
        raise _fail(node, GraphError("one pixel has no variance"), types)
    statistics = TensorType((channels,), types[0].dtype)
    return [types[0], statistics, statistics]


def _add(node: Node, types: Types) -> list[TensorType]:
    a, b = types
    if len(a.shape) != len(b.shape) or any(
        _differ(m, n) for m, n in zip(a.shape, b.shape, strict=True)
    ):
        raise _fail(node, GraphError("the two shapes differ"), types)
    merged = tuple(n if m is None else m for m, n in zip(a.shape, b.shape, strict=True))
    return [TensorType(merged, a.dtype)]


def _zero_padding_shortcut(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None,) * 4)
    n, h, w, c = types[0].shape
    stride = cast("int", node.options["stride"])
    channels = cast("int", node.options["channels"])
    if c is not None and channels < c:
        reason = GraphError("it cannot shrink to {channels} channels", channels=channels)
        raise _fail(node, reason, types)
    sizes = [None if size is None else -(-size // stride) for size in (h, w)]
    return [TensorType((n, *sizes, channels), types[0].dtype)]


def _linear(node: Node, types: Types) -> list[TensorType]:
    _require(node, types, (None, None), (None, None))
    (n, features), oc = types[0].shape, types[1].shape[0]
    _require(node, types[1:], (oc, features), (oc,))
    return [TensorType((n, oc), types[0].dtype)]


def _cross_entropy(node: Node, types: Types) -> list[TensorType]:
    """Accept a target of class indices [N], or of distributions [N, K]."""
    _require(node, types, (None, None))
    n, classes = types[0].shape
    _require(node, types[1:], (n,) if types[1].dtype in INTEGERS else (n, classes))
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
    "batch_norm": Operator((5, 5), _batch_norm, {"epsilon": _positive_fraction}),
    "batch_norm_training": Operator(
        (5, 5),
        _batch_norm_training,
        {"epsilon": _positive_fraction, "momentum": _fraction},
        outputs=(3, 3),
        updates=(3, 4),  # running mean and variance
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
    "softmax": Operator((1, 1), _softmax),
    "cross_entropy": Operator((2, 2), _cross_entropy, {"label_smoothing": _fraction}, indices=(1,)),
}
