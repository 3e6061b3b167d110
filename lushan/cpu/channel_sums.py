"""Sums over all pixels, for each channel, in float64: what batch norm and biases learn from.

The meaning is the ``channel_sum`` of ``lushan.reference.arrays``, of x itself or of what a kind of
sum makes of it. The order: rows of all pictures are cut into slices by their number alone; in a
slice each channel has one running sum, row after row, pixel after pixel; slices are added in order.
float64 keeps what millions of float32 numbers say together (mission, chapter 14).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from typing import Literal, TypeAlias

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import Piece, each_group, plane_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Place, Plane, Task
from lushan.cpu.tiling import SUM_SLICES, SUM_VECTORS
from lushan.record import record

F64 = ir.DoubleType()
Mean: TypeAlias = "Place | NDArray[np.float32]"
DOUBLE = 2  # float32 that a float64 takes the room of

# What is summed: x; x and x²; g and g·(x − mean); g·x where x is negative.
Kind: TypeAlias = Literal["sum", "moments", "gradient", "negative"]
_SUMS: dict[Kind, int] = {"sum": 1, "moments": 2, "gradient": 2, "negative": 1}


class Argument(IntEnum):
    """The arguments of the sums of slices, by place. Strides are in elements."""

    PARTIAL = 0  # and PARTIAL + 1: float64 [slices, sums, C]
    X = 2  # and X + 1
    GRADIENT = 4  # and GRADIENT + 1
    MEAN = 6  # and MEAN + 1, unless it is a parameter: float32 [C]
    X_ROW = 8
    X_IMAGE = auto()
    GRADIENT_ROW = auto()
    GRADIENT_IMAGE = auto()
    WIDTH = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()  # a chunk is a slice


@record
class ChannelSumsKernel:
    """Sums of one kind over the rows of a slice; ``given`` says that the mean is a parameter."""

    kind: Kind
    channels: int
    given: bool = False

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, channels, count = Argument, self.channels, _SUMS[self.kind]
        partial = e.pointer(a.PARTIAL, F64)
        partial = e.offset(partial, e.mul(e.chunk, count * channels))
        first = e.mul(e.chunk, e.argument(a.ROWS_PER_CHUNK))
        last = e.lesser(e.add(first, e.argument(a.ROWS_PER_CHUNK)), e.argument(a.ROWS))
        per_image, width = e.argument(a.ROWS_PER_IMAGE), e.argument(a.WIDTH)
        mean = None
        if self.kind == "gradient":
            mean = e.absolute(a.MEAN) if self.given else e.pointer(a.MEAN)
        names = ("X",) if self.kind in ("sum", "moments") else ("X", "GRADIENT")

        def group(start: Value, pieces: Sequence[Piece]) -> None:
            shifts = [
                double(e, e.load(mean, e.add(start, at), lanes=used)) if mean is not None else None
                for at, used in pieces
            ]

            def row(number: Value, *sums: Value) -> list[Value]:
                image, y = e.divide(number, per_image)
                lines = [e.offset(row_pointer(e, a, name, image, y), start) for name in names]

                def pixel(place: Value, *sums: Value) -> list[Value]:
                    here = [e.offset(line, e.mul(place, channels)) for line in lines]
                    new: list[Value] = []
                    for (at, used), shift in zip(pieces, shifts, strict=True):
                        loaded = [e.load(pointer, at, lanes=used) for pointer in here]
                        own = sums[len(new) : len(new) + count]
                        new += self._add(e, loaded, shift, own)
                    return new

                return e.loop(0, width, pixel, carried=sums)

            zero = ir.Constant(ir.VectorType(F64, target.lanes), None)
            sums = e.loop(first, last, row, carried=[zero] * (count * len(pieces)))
            for number, total in enumerate(sums):
                (at, used), which = pieces[number // count], number % count
                e.store(total, partial, e.add(start, at + which * channels), lanes=used)

        each_group(e, channels, SUM_VECTORS, group)
        return e.text()

    def _add(
        self, e: KernelEmitter, loaded: list[Value], shift: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """Return the sums of some channels with the numbers of one more pixel."""
        b, x = e.builder, double(e, loaded[0])
        if self.kind == "sum":
            return [b.fadd(sums[0], x)]
        if self.kind == "moments":
            return [b.fadd(sums[0], x), b.fadd(sums[1], b.fmul(x, x))]
        g = double(e, loaded[1])
        if self.kind == "gradient":
            return [b.fadd(sums[0], g), b.fadd(sums[1], b.fmul(g, b.fsub(x, shift)))]
        zero = ir.Constant(x.type, None)
        negative = b.select(b.fcmp_ordered("<", x, zero), x, zero)
        return [b.fadd(sums[0], b.fmul(g, negative))]


def double(e: KernelEmitter, vector: Value) -> Value:
    """Return a vector of float32 as float64."""
    return e.builder.fpext(vector, ir.VectorType(F64, vector.type.count))


def single(e: KernelEmitter, vector: Value) -> Value:
    """Return a vector of float64 rounded to float32."""
    return e.builder.fptrunc(vector, e.vector)


def doubles(e: KernelEmitter, number: float) -> Value:
    """Return a vector of one float64."""
    return ir.Constant(ir.VectorType(F64, e.target.lanes), [float(number)] * e.target.lanes)


def joined(e: KernelEmitter, partial: Value, slices: Value, size: Value, used: int) -> Value:
    """Return the sum of vectors of float64 at ``partial``, ``size`` numbers apart."""

    def add(index: Value, total: Value) -> list[Value]:
        more = e.load(e.offset(partial, e.mul(index, size)), lanes=used)
        return [e.builder.fadd(total, more)]

    (total,) = e.loop(1, slices, add, carried=[e.load(partial, lanes=used)])
    return total


def two_sums(
    e: KernelEmitter, partial: Value, channels: int, slices: Value, place: Value, used: int
) -> list[Value]:
    """Return both sums of some channels, of slices [2, C]."""
    starts = [e.offset(partial, e.add(place, which * channels)) for which in range(2)]
    return [joined(e, start, slices, e.integer(2 * channels), used) for start in starts]


def sums_task(
    kind: Kind, x: Plane, name: str, gradient: Plane | None = None, mean: Mean | None = None
) -> tuple[Task, Plane, int]:
    """Return the task of the sums of slices, the plane that it writes, and the number of slices.

    The plane, called ``name``, has float64 [slices, sums, C]. ``mean`` is a place of [C], or a
    parameter.
    """
    n, h, w, c = x.shape
    count = _SUMS[kind]
    each = -(-n * h // SUM_SLICES)
    slices = -(-n * h // each)
    partial = Plane(name, (1, 1, slices * count, DOUBLE * c))
    planes = {"X": x} | ({} if gradient is None else {"GRADIENT": gradient})
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, **planes),
        Argument.PARTIAL: partial.at(),
        Argument.WIDTH: w,
        Argument.ROWS: n * h,
        Argument.ROWS_PER_IMAGE: h,
        Argument.ROWS_PER_CHUNK: each,
    }
    if mean is not None:
        arguments[Argument.MEAN] = mean
    kernel = ChannelSumsKernel(kind, c, isinstance(mean, np.ndarray))
    return Task(kernel, arguments, slices), partial, slices


class TotalArgument(IntEnum):
    """The arguments of adding up slices, by place."""

    Y = 0  # and Y + 1: float32 [C]
    PARTIAL = 2  # and PARTIAL + 1
    SLICES = 4


@record
class TotalKernel:
    """Adds up slices of one sum for each channel, rounded to float32 once."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        y, partial = e.pointer(TotalArgument.Y), e.pointer(TotalArgument.PARTIAL, F64)
        slices = e.argument(TotalArgument.SLICES)

        def write(place: Value, used: int) -> None:
            total = joined(e, e.offset(partial, place), slices, e.integer(self.channels), used)
            e.store(single(e, total), y, place, lanes=used)

        each_channel(e, self.channels, write)
        return e.text()


def each_channel(e: KernelEmitter, channels: int, body: Callable[[Value, int], None]) -> None:
    """Emit ``body(place, lanes)`` for all channels: whole vectors, then the rest."""
    whole = channels - channels % e.target.lanes
    e.loop(0, whole, lambda place: body(place, e.target.lanes), step=e.target.lanes)
    if channels > whole:
        body(e.integer(whole), channels - whole)


def channel_sum_tasks(
    kind: Kind, x: Plane, y: Plane, gradient: Plane | None = None
) -> tuple[list[Task], list[Plane]]:
    """Write a sum over the pixels of x [N, H, W, C], for each channel, to y, a plane of [C]."""
    sums, partial, slices = sums_task(kind, x, f"{y.value} partial", gradient)
    arguments: dict[IntEnum, task.Argument] = {
        TotalArgument.Y: y.at(),
        TotalArgument.PARTIAL: partial.at(),
        TotalArgument.SLICES: slices,
    }
    return [sums, Task(TotalKernel(x.shape[3]), arguments, 1, waits=True)], [partial]
