"""Pooling: one number for each window of each channel.

The meaning is ``lushan.reference.pooling``. A window is cut down to its real pixels at run time,
once for each row and column of windows, so no halo is needed and none is read. Its pixels are
taken in row-major order with the maxima or sums of some vectors of channels in registers.

Averages sum in that order, then divide. The global average runs over rows, and within a row over
pixels, in one float64 sum for each channel, which is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Literal

from llvmlite import ir

from lushan.cpu.byte_arithmetic import STEP
from lushan.cpu.emit import F32, I8, I32, I64, KernelEmitter, Value
from lushan.cpu.rows import (
    Piece,
    each_group,
    each_row,
    image_pointer,
    plane_arguments,
    row_arguments,
    row_pointer,
)
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS
from lushan.record import record


class Argument(IntEnum):
    """The arguments of windowed pooling, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    SWITCHES = 4  # and SWITCHES + 1
    Y_ROW = 6
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    SWITCHES_ROW = auto()  # in float32, of which an int64 takes two
    SWITCHES_IMAGE = auto()
    HEIGHT = auto()  # of the input
    WIDTH = auto()
    OUTPUT_WIDTH = auto()
    ROWS = auto()  # of the output, all pictures
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@record
class PoolingKernel:
    """``kernel`` is (KH, KW), ``stride`` likewise; ``padding`` is (top, left).

    What lies below and to the right of the real pixels needs no number: windows end there.
    """

    kind: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    channels: int
    switches: bool = False  # of max pooling
    element: Literal["float32", "uint8"] = "float32"  # bytes for max pooling alone
    count_include_pad: bool = True  # of average pooling

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        if self.element == "uint8":
            return _MaximumOfBytes(self, KernelEmitter(name, target)).emit()
        emitter = _Maximum if self.kind == "max" else _Average
        return emitter(self, KernelEmitter(name, target)).emit()


def real_pixels(
    e: KernelEmitter, kernel: PoolingKernel, place: Value, axis: int, size: Value
) -> tuple[Value, Value]:
    """Return the first real row (or column) of the window at ``place``, and where they end."""
    start = e.sub(e.mul(place, kernel.stride[axis]), kernel.padding[axis])
    return e.greater(start, 0), e.lesser(e.add(start, kernel.kernel[axis]), size)


def averaged_pixels(e: KernelEmitter, kernel: PoolingKernel, *real: tuple[Value, Value]) -> Value:
    """Return a vector of how many pixels a mean is of, given the ``real`` rows and columns."""
    if kernel.count_include_pad:
        return e.splat(float(math.prod(kernel.kernel)))
    count = e.mul(*(e.sub(last, first) for first, last in real))
    return e.splat(e.builder.sitofp(count, F32))


@record
class _Real:
    """The real pixels of a window: its first row and the one after its last; columns likewise."""

    rows: tuple[Value, Value]
    columns: tuple[Value, Value]


@record
class _Output:
    """Where the results of a window go: rows of y and of the switches, and the place in them."""

    y: Value
    switches: Value | None
    at: Value


class _Window:
    """Slides the window; what is kept of its pixels is said by ``start``, ``meet`` and ``end``."""

    element: ir.Type = F32
    together = 1  # channels that are one number of a vector

    def __init__(self, kernel: PoolingKernel, e: KernelEmitter) -> None:
        self.kernel = kernel
        self.e = e
        self.lanes = e.target.lanes

    def emit(self) -> str:
        each_row(self.e, Argument, self._row)
        return self.e.text()

    def _row(self, image: Value, y: Value) -> None:
        e, channels = self.e, self.kernel.channels
        rows = real_pixels(e, self.kernel, y, 0, e.argument(Argument.HEIGHT))
        x = image_pointer(e, Argument, "X", image, self.element)
        y_row = row_pointer(e, Argument, "Y", image, y, self.element)
        switches = row_pointer(e, Argument, "SWITCHES", image, y) if self.kernel.switches else None
        width = e.argument(Argument.WIDTH)

        def column(place: Value) -> None:
            window = _Real(rows, real_pixels(e, self.kernel, place, 1, width))

            def group(number: Value, pieces: Sequence[Piece]) -> None:
                first = e.mul(number, self.together)
                kept = self._slide(x, window, first, pieces)
                at = e.add(e.mul(place, channels), first)
                self.end(kept, pieces, window, _Output(y_row, switches, at))

            each_group(e, channels // self.together, CHANNEL_VECTORS, group)

        e.loop(0, e.argument(Argument.OUTPUT_WIDTH), column)

    def _slide(self, x: Value, window: _Real, first: Value, pieces: Sequence[Piece]) -> list[Value]:
        """Return what is kept of all real pixels of one window."""
        e = self.e
        stride, width = e.argument(Argument.X_ROW), e.argument(Argument.WIDTH)

        def row(h: Value, *kept: Value) -> list[Value]:
            line = e.offset(x, e.add(e.mul(h, stride), first))
            position = e.mul(h, width)

            def pixel(w: Value, *kept: Value) -> list[Value]:
                here = e.offset(line, e.mul(w, self.kernel.channels))
                loaded = [self.load(here, at, used) for at, used in pieces]
                return self.meet(loaded, list(kept), e.add(position, w))

            return e.loop(*window.columns, pixel, carried=kept)

        return e.loop(*window.rows, row, carried=self.start(window, len(pieces)))

    def load(self, pixel: Value, at: int, used: int) -> Value:
        """Load a vector of channels of a pixel, of which ``used`` numbers count."""
        return self.e.load(pixel, at, lanes=used)

    def store(self, vector: Value, pixel: Value, at: int, used: int) -> None:
        """Store a vector of channels of a pixel, of which ``used`` numbers count."""
        self.e.store(vector, pixel, at, lanes=used)

    def start(self, window: _Real, pieces: int) -> list[Value]:
        raise NotImplementedError

    def meet(self, loaded: list[Value], kept: list[Value], position: Value) -> list[Value]:
        raise NotImplementedError

    def end(
        self, kept: list[Value], pieces: Sequence[Piece], window: _Real, output: _Output
    ) -> None:
        raise NotImplementedError


class _Maximum(_Window):
    """Keeps the greatest number and, with switches, its position h·W + w (in 32 bits)."""

    def start(self, window: _Real, pieces: int) -> list[Value]:
        """Start with −∞ at the first real pixel: the answer where nothing is greater."""
        e = self.e
        best = [e.splat(-math.inf)] * pieces
        if not self.kernel.switches:
            return best
        first = e.add(e.mul(window.rows[0], e.argument(Argument.WIDTH)), window.columns[0])
        return best + [self._positions(first)] * pieces

    def meet(self, loaded: list[Value], kept: list[Value], position: Value) -> list[Value]:
        """Keep the first of the greatest; a NaN wins, and is not beaten afterwards."""
        e, b = self.e, self.e.builder
        best, winners = kept[: len(loaded)], kept[len(loaded) :]
        if not winners:
            # A maximum gives the second of two when either is NaN; then only the first is missing.
            return [
                b.select(b.fcmp_unordered("uno", old, old), old, e.maximum(old, new))
                for old, new in zip(best, loaded, strict=True)
            ]
        here = self._positions(position)
        wins = [
            b.and_(b.fcmp_unordered(">", new, old), b.fcmp_ordered("ord", old, old))
            for old, new in zip(best, loaded, strict=True)
        ]
        values = [b.select(w, new, old) for w, new, old in zip(wins, loaded, best, strict=True)]
        return values + [b.select(w, here, old) for w, old in zip(wins, winners, strict=True)]

    def end(
        self, kept: list[Value], pieces: Sequence[Piece], window: _Real, output: _Output
    ) -> None:
        """Store the maxima and the switches."""
        e = self.e
        pixel = e.offset(output.y, output.at)
        for (place, used), value in zip(pieces, kept, strict=False):
            self.store(value, pixel, place, used)
        if output.switches is None:
            return
        integers = e.builder.bitcast(output.switches, I64.as_pointer())
        for (place, used), winner in zip(pieces, kept[len(pieces) :], strict=True):
            self._store_positions(winner, e.offset(integers, e.add(output.at, place)), used)

    def _positions(self, position: Value) -> Value:
        """Return a vector of one position."""
        return self.e.spread(self.e.builder.trunc(position, I32))

    def _store_positions(self, winner: Value, place: Value, used: int) -> None:
        b = self.e.builder
        wide = b.zext(winner, ir.VectorType(I64, self.lanes))
        if used == self.lanes:
            b.store(wide, b.bitcast(place, wide.type.as_pointer()), align=4)
            return
        for lane in range(used):
            b.store(b.extract_element(wide, I32(lane)), self.e.offset(place, lane), align=4)


class _MaximumOfBytes(_Maximum):
    """Keeps the greatest byte; no byte is less than 0, and every window has a real pixel.

    Where the channels allow, four bytes are one number of a vector, which then fills a register.
    """

    element = I8

    def __init__(self, kernel: PoolingKernel, e: KernelEmitter) -> None:
        super().__init__(kernel, e)
        self.together = 1 if kernel.channels % STEP else STEP
        self._number = ir.IntType(8 * self.together)
        self._bytes = ir.VectorType(I8, self.together * self.lanes)

    def load(self, pixel: Value, at: int, used: int) -> Value:
        """Load bytes."""
        numbers = super().load(self._numbers(pixel), at, used)
        return self.e.builder.bitcast(numbers, self._bytes)

    def store(self, vector: Value, pixel: Value, at: int, used: int) -> None:
        """Store bytes."""
        numbers = self.e.builder.bitcast(vector, ir.VectorType(self._number, self.lanes))
        super().store(numbers, self._numbers(pixel), at, used)

    def start(self, window: _Real, pieces: int) -> list[Value]:
        """Start with 0."""
        return [ir.Constant(self._bytes, None)] * pieces

    def meet(self, loaded: list[Value], kept: list[Value], position: Value) -> list[Value]:
        """Keep the greatest."""
        b = self.e.builder
        return [
            b.select(b.icmp_unsigned(">", new, old), new, old)
            for old, new in zip(kept, loaded, strict=True)
        ]

    def _numbers(self, pixel: Value) -> Value:
        return self.e.builder.bitcast(pixel, self._number.as_pointer())


class _Average(_Window):
    """Keeps the sum."""

    def start(self, window: _Real, pieces: int) -> list[Value]:
        """Start with 0."""
        return [self.e.splat(0.0)] * pieces

    def meet(self, loaded: list[Value], kept: list[Value], position: Value) -> list[Value]:
        """Add."""
        return [self.e.builder.fadd(old, new) for old, new in zip(kept, loaded, strict=True)]

    def end(
        self, kept: list[Value], pieces: Sequence[Piece], window: _Real, output: _Output
    ) -> None:
        """Divide by the pixels of the window, or by its real ones, and store."""
        e = self.e
        count = averaged_pixels(e, self.kernel, window.rows, window.columns)
        for (place, used), total in zip(pieces, kept, strict=True):
            mean = e.builder.fdiv(total, count)
            e.store(mean, output.y, e.add(output.at, place), lanes=used)


def max_pooling_tasks(
    x: Plane,
    y: Plane,
    switches: Plane | None,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    target: Target,
) -> list[Task]:
    """Write the maxima of x to y and, where wanted, which pixels won to ``switches``.

    Switches are int64 [N, HO, WO, C]; their plane is counted in float32, so it has 2·C channels.
    ``padding`` is (top, bottom, left, right). Planes of bytes have no switches.
    """
    pooling = PoolingKernel(
        "max",
        kernel,
        stride,
        (padding[0], padding[2]),
        x.shape[3],
        switches is not None,
        "float32" if x.itemsize == FLOAT else "uint8",
    )
    planes = {"X": x, "Y": y} | ({} if switches is None else {"SWITCHES": switches})
    return [_task(pooling, planes)]


def average_pooling_tasks(
    x: Plane,
    y: Plane,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    count_include_pad: bool,
    target: Target,
) -> list[Task]:
    """Write the mean of each window of x to y; ``padding`` is (top, bottom, left, right)."""
    edges = (padding[0], padding[2])
    pooling = PoolingKernel(
        "average", kernel, stride, edges, x.shape[3], count_include_pad=count_include_pad
    )
    return [_task(pooling, {"X": x, "Y": y})]


def _task(kernel: PoolingKernel, planes: dict[str, Plane]) -> Task:
    x, y = planes["X"], planes["Y"]
    _, h, w, c = x.shape
    # A new row of output needs about ``stride`` new rows of input.
    cut, chunks = row_arguments(Argument, y, y.shape[2] * c + kernel.stride[0] * w * c)
    arguments = {
        **plane_arguments(Argument, **planes),
        **cut,
        Argument.HEIGHT: h,
        Argument.WIDTH: w,
        Argument.OUTPUT_WIDTH: y.shape[2],
    }
    return Task(kernel, arguments, chunks)
