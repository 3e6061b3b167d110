"""The receptive field of a node: which pixels of the picture one number of it can see.

Along each axis, output o sees the pixels from ``start + o · stride`` to ``size`` of them further.
A window of k taps, dilated by d, with stride s and padding p, over a value with (start, stride,
size) makes that (start − p · stride, stride · s, size + (k − 1) · d · stride). Where two ways join,
the field spans both. After global pooling every number sees everything.

It is what *can* be seen; how much the edge of it counts is another matter (less than the middle:
fewer ways lead there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from lushan.errors import UsageError
from lushan.graph.ir import Graph, Node
from lushan.graph.shape_rules import window_of
from lushan.reference.geometry import Window, window
from lushan.reference.pooling import pooling_window

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are not in it


class _Reach(NamedTuple):
    """What output o sees along one axis, in pixels of the picture."""

    start: int
    stride: int
    size: int

    def through(self, kernel: int, stride: int, before: int) -> _Reach:
        """Return what the outputs of a window see; ``kernel`` is from its first to last tap."""
        return _Reach(
            self.start - before * self.stride,
            self.stride * stride,
            self.size + (kernel - 1) * self.stride,
        )

    def joined(self, other: _Reach) -> _Reach:
        """Return what spans both; they advance alike, for their sizes are the same."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return _Reach(start, self.stride, end - start)


@dataclass(frozen=True)
class ReceptiveField:
    """Sizes in pixels; ``rows`` and ``columns`` are None for a node that sees everything."""

    rows: _Reach | None
    columns: _Reach | None

    @property
    def height(self) -> int | None:
        """How many rows of the picture one number can see; None: all of them."""
        return self.rows.size if self.rows else None

    @property
    def width(self) -> int | None:
        """How many columns of the picture one number can see; None: all of them."""
        return self.columns.size if self.columns else None

    @property
    def stride(self) -> tuple[int, int] | None:
        """By how many pixels the field moves from one row and one column to the next."""
        if self.rows is None or self.columns is None:
            return None
        return self.rows.stride, self.columns.stride

    def box(self, row: int, column: int, size: tuple[int, int]) -> Box:
        """Return the pixels that the number at (row, column) can see, of a picture of ``size``.

        It is cut at the picture's edge: (top, left, bottom, right), the last two excluded.
        """
        if self.rows is None or self.columns is None:
            return (0, 0, *size)
        (top, bottom), (left, right) = (
            (max(0, reach.start + at * reach.stride), reach.start + at * reach.stride + reach.size)
            for reach, at in ((self.rows, row), (self.columns, column))
        )
        return top, left, min(bottom, size[0]), min(right, size[1])


def receptive_field(graph: Graph, node: str) -> ReceptiveField:
    """Return the receptive field of the value ``node`` on the input of ``graph``.

    Raises UsageError for an operator whose window is not known, GraphError for no such node.
    """
    graph.node(node)
    fields = {value.name: ReceptiveField(_SELF, _SELF) for value in graph.inputs}
    for step in graph.nodes:
        seen = [fields[name] for name in step.inputs if name in fields]
        fields.update((name, _after(graph, step, seen)) for name in step.outputs)
        if node in step.outputs:
            break
    return fields[node]


_SELF = _Reach(0, 1, 1)
_EVERYTHING = ReceptiveField(None, None)
# What sees the place of its input and no other.
_POINTWISE = ("batch_norm", "relu", "leaky_relu", "prelu", "sigmoid", "tanh", "add", "softmax")


def _after(graph: Graph, node: Node, seen: list[ReceptiveField]) -> ReceptiveField:
    joined = seen[0]
    for other in seen[1:]:
        if joined.rows and joined.columns and other.rows and other.columns:
            rows, columns = joined.rows.joined(other.rows), joined.columns.joined(other.columns)
            joined = ReceptiveField(rows, columns)
        else:
            joined = _EVERYTHING
    if node.operator in ("global_average_pooling", "linear"):
        return _EVERYTHING
    if node.operator in _POINTWISE or joined.rows is None or joined.columns is None:
        return joined
    slide = _window(graph, node)
    (kh, kw), (down, across) = slide.effective_kernel, slide.stride
    top, _, left, _ = slide.padding
    return ReceptiveField(
        joined.rows.through(kh, down, top), joined.columns.through(kw, across, left)
    )


def _window(graph: Graph, node: Node) -> Window:
    """Return the window that ``node`` slides over its input."""
    options: dict[str, Any] = node.options
    if node.operator in ("convolution", "fused_convolution"):
        shapes = {value.name: value.type.shape for value in graph.parameters}
        kernel = cast("tuple[int, int]", shapes[node.inputs[1]][1:3])
        return window_of(node, kernel)
    if node.operator in ("max_pooling", "average_pooling"):
        return pooling_window(options["kernel"], options["stride"], options["padding"])
    if node.operator == "zero_padding_shortcut":
        return window(1, stride=options["stride"])
    raise UsageError(
        "{name}: the window of {operator} is not known", name=node.name, operator=node.operator
    )
