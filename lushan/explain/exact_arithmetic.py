"""The exact arithmetic of one activation: every product of it, and their sum.

The engine folds batch norm into the convolution, and fuses the residual sum and the activation into
it, so any number of the network is

    value = activation(Σ window · kernel + bias + shortcut)

with the folded kernel and bias: those are the numbers that were really used. Other operators are
special cases: a fully connected layer has a window of one pixel, average pooling a kernel of equal
parts, max pooling one of zeros and a 1 where the switch points.

A product of two float32 is exact in float64, and ``math.fsum`` rounds their sum once: that is the
value to compare with. The engine's float32 number differs from it by the rounding of its own order
of summing (Winograd's, where that pays, computes other products altogether); so does the plain
running sum, one product after the other, which shows what long sums do (chapter 14).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lushan import passes
from lushan.errors import UsageError
from lushan.explain.features import pooling_switches
from lushan.explain.inspection import FloatArray, Inspection
from lushan.graph.executor import Array
from lushan.graph.ir import Node
from lushan.graph.shape_rules import window_of
from lushan.models.resnet_graph import INPUT
from lushan.reference.geometry import Window, window
from lushan.reference.pooling import pooling_window


@dataclass(frozen=True)
class Arithmetic:
    """One number of the value ``node``, and what it is made of.

    ``window`` and ``kernel`` are float32 [KH, KW, IC]; ``inside`` [KH, KW] says which pixels of the
    window lie on ``source``: the others are padding, and 0 in ``window``. Its first pixel would be
    at (``top``, ``left``) there. ``shortcut`` is what is added to the sum, from the value
    ``shortcut_node``; None without. ``row`` and ``column`` are None for a value without maps.
    ``displayed`` is the engine's number.
    """

    node: str
    operator: str
    row: int | None
    column: int | None
    channel: int
    source: str
    top: int
    left: int
    window: FloatArray
    kernel: FloatArray
    inside: npt.NDArray[np.bool_]
    bias: float
    shortcut_node: str | None
    shortcut: float | None
    activation: str
    slope: float
    displayed: float

    @property
    def products(self) -> npt.NDArray[np.float64]:
        """The products of window and kernel, exact: float64 [KH, KW, IC]."""
        return self.window.astype(np.float64) * self.kernel

    @property
    def sum_of_products(self) -> float:
        """The sum of the products, rounded once."""
        return math.fsum(self.products.ravel())

    @property
    def before_activation(self) -> float:
        """Products, bias and shortcut together, in float64, rounded once."""
        return math.fsum((*self.products.ravel(), self.bias, self.shortcut or 0.0))

    @property
    def value(self) -> float:
        """The value of the activation in float64."""
        return _activate(self.activation, self.slope, self.before_activation)

    @property
    def deviation(self) -> float:
        """The float32 error: the engine's number less ``value``."""
        return self.displayed - self.value

    @property
    def magnitude(self) -> float:
        """The sum of the sizes of all terms: rounding errors are small beside this.

        Where terms of both signs nearly cancel, they need not be small beside the value.
        """
        return math.fsum(
            (*np.abs(self.products).ravel(), abs(self.bias), abs(self.shortcut or 0.0))
        )

    @property
    def running_sum(self) -> float:
        """The value with one float32 sum, product after product, each rounded."""
        products = (self.window * self.kernel).ravel()
        total = np.cumsum(products, dtype=np.float32)[-1] + np.float32(self.bias)
        total += np.float32(self.shortcut or 0.0)
        return _activate(self.activation, self.slope, float(total))


def arithmetic(
    inspection: Inspection, node: str, channel: int, place: tuple[int, int] | None = None
) -> Arithmetic:
    """Return the arithmetic of one number: ``channel`` of ``node`` at ``place`` (row, column).

    A value without maps has no place. Raises UsageError for a node, channel or place that there is
    not, and for the picture itself.
    """
    inspection.check_node(node)
    inspection.check_channel(node, channel)
    is_map = len(inspection.shape(node)) == 3
    if node == INPUT or is_map != (place is not None):
        raise UsageError(
            "{name}: give a row and a column for a value with maps, none for one without; the "
            "picture itself is not computed",
            name=node,
        )
    if place is not None:
        inspection.check_place(node, place)
    graph, weights = passes.apply(inspection.graph, inspection.model.weights, keep=[node])
    rewritten = graph.node(node)
    if rewritten.operator not in _TERMS:
        raise UsageError(
            "{name}: the arithmetic of {operator} is not known",
            name=node,
            operator=rewritten.operator,
        )
    inspection.values([name for name in (*rewritten.inputs, node) if name not in weights])
    cell = _Cell(inspection, weights, rewritten, place or (0, 0), channel)
    row, column = place or (None, None)
    value = inspection.value(node)
    displayed = value[channel] if place is None else value[place][channel]
    return Arithmetic(
        node=node,
        operator=inspection.graph.node(node).operator,
        row=row,
        column=column,
        channel=channel,
        displayed=float(displayed),
        **{**_NOTHING, **_TERMS[rewritten.operator](cell)},
    )


_NOTHING: Mapping[str, Any] = {
    "top": 0,
    "left": 0,
    "bias": 0.0,
    "shortcut_node": None,
    "shortcut": None,
    "activation": "none",
    "slope": 0.0,
}


def _activate(activation: str, slope: float, x: float) -> float:
    if activation == "sigmoid":
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
    if activation == "tanh":
        return math.tanh(x)
    if activation == "none" or x > 0:
        return x
    return slope * x if activation in ("leaky_relu", "prelu") else 0.0


# --- the terms of each operator -------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One number of what ``node`` of the rewritten graph gives; (0, 0) where there are no maps."""

    inspection: Inspection
    weights: Mapping[str, Array]
    node: Node
    place: tuple[int, int]
    channel: int

    @property
    def options(self) -> dict[str, Any]:
        return self.node.options

    @property
    def source(self) -> str:
        return self.node.inputs[0]

    @property
    def x(self) -> FloatArray:
        return self.inspection.value(self.source)

    def number(self, name: str) -> float:
        """Return the number of another value at the same place and channel."""
        return float(self.inspection.value(name)[self.place][self.channel])


def _convolution(cell: _Cell) -> dict[str, Any]:
    options = cell.options
    _, weight, *others = cell.node.inputs
    array = cell.weights[weight]
    kernel = np.ascontiguousarray(array[cell.channel])
    slide = window_of(cell.node, kernel.shape[:2])
    each = kernel.shape[2]
    first = cell.channel // (len(array) // options["groups"]) * each
    cut = _cut(cell.x[..., first : first + each], slide, cell.place)
    terms = {"source": cell.source, "kernel": kernel, **cut}
    if others:
        terms["bias"] = float(cell.weights[others[0]][cell.channel])
    if len(others) > 1:
        terms |= {"shortcut_node": others[1], "shortcut": cell.number(others[1])}
    return terms | {name: options[name] for name in ("activation", "slope") if name in options}


def _linear(cell: _Cell) -> dict[str, Any]:
    _, weight, *bias = cell.node.inputs
    return {
        **_point(cell.source, cell.x),
        "kernel": np.array(cell.weights[weight][cell.channel])[None, None],
        "bias": float(cell.weights[bias[0]][cell.channel]) if bias else 0.0,
    }


def _pooling(cell: _Cell) -> dict[str, Any]:
    options = cell.options
    plane = cell.x[..., cell.channel : cell.channel + 1]
    if cell.node.operator == "global_average_pooling":
        slide = window(plane.shape[:2])
    else:
        slide = pooling_window(options["kernel"], options["stride"], options["padding"])
    terms = {"source": cell.source, **_cut(plane, slide, cell.place)}
    kernel = np.zeros((*slide.kernel, 1), np.float32)
    if cell.node.operator == "max_pooling":
        switches = pooling_switches(cell.inspection, cell.node.name)
        row, column = divmod(int(switches[cell.place][cell.channel]), plane.shape[1])
        kernel[row - terms["top"], column - terms["left"]] = 1
    else:
        everything = options.get("count_include_pad", True)
        kernel[...] = 1 / (terms["inside"].size if everything else terms["inside"].sum())
    return {**terms, "kernel": kernel}


def _elementwise(cell: _Cell) -> dict[str, Any]:
    """Activations that stand alone, and sums: a window of one number, times 1."""
    others = cell.node.inputs[1:]
    terms = {
        **_point(cell.source, cell.x[cell.place][cell.channel].reshape(1)),
        "kernel": _ONE,
        "top": cell.place[0],
        "left": cell.place[1],
    }
    if cell.node.operator == "add":
        return {**terms, "shortcut_node": others[0], "shortcut": cell.number(others[0])}
    slope = cell.weights[others[0]][cell.channel] if others else cell.options.get("slope", 0.0)
    return {**terms, "activation": cell.node.operator, "slope": float(slope)}


def _zero_padding_shortcut(cell: _Cell) -> dict[str, Any]:
    x = cell.x
    channel = cell.channel - (cell.options["channels"] - x.shape[2]) // 2
    there = 0 <= channel < x.shape[2]
    row, column = (at * cell.options["stride"] for at in cell.place)
    number = x[row, column, channel] if there else np.float32(0)
    terms = {**_point(cell.source, number.reshape(1)), "top": row, "left": column}
    return {**terms, "kernel": _ONE, "inside": np.full((1, 1), there)}


_ONE = np.ones((1, 1, 1), np.float32)


def _point(source: str, numbers: FloatArray) -> dict[str, Any]:
    """Return a window of one pixel with these numbers [IC]."""
    return {
        "source": source,
        "window": numbers[None, None],
        "inside": np.ones((1, 1), np.bool_),
    }


def _cut(x: FloatArray, slide: Window, place: tuple[int, int]) -> dict[str, Any]:
    """Return the window that slides to ``place`` on x [H, W, IC], and where it lies."""
    top, left = (
        at * stride - before
        for at, stride, before in zip(place, slide.stride, slide.padding[::2], strict=True)
    )
    rows = top + slide.dilation[0] * np.arange(slide.kernel[0])
    columns = left + slide.dilation[1] * np.arange(slide.kernel[1])
    inside = ((rows >= 0) & (rows < x.shape[0]))[:, None] & (
        (columns >= 0) & (columns < x.shape[1])
    )
    taken = x[np.clip(rows, 0, x.shape[0] - 1)][:, np.clip(columns, 0, x.shape[1] - 1)]
    cut = np.where(inside[..., None], taken, np.float32(0))
    return {"window": cut, "inside": inside, "top": top, "left": left}


_TERMS = {
    "convolution": _convolution,
    "fused_convolution": _convolution,
    "linear": _linear,
    "max_pooling": _pooling,
    "average_pooling": _pooling,
    "global_average_pooling": _pooling,
    "add": _elementwise,
    "relu": _elementwise,
    "leaky_relu": _elementwise,
    "prelu": _elementwise,
    "sigmoid": _elementwise,
    "tanh": _elementwise,
    "zero_padding_shortcut": _zero_padding_shortcut,
}
