"""Softmax over the channels of each pixel; scores [N, K] are pictures of one pixel.

The meaning is ``lushan.reference.softmax.softmax``: the greatest score is subtracted first. The
order of the sum: each lane adds up its numbers, vector after vector; then the lanes are added
pairwise, halves onto each other. Three walks: greatest, exp and sum, division.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum, auto

from llvmlite import ir

from lushan.cpu import task
from lushan.cpu.emit import I1, KernelEmitter, Value
from lushan.cpu.exponential import exponential
from lushan.cpu.rows import each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    WIDTH = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@record
class SoftmaxKernel:
    """Softmax over ``channels``; the output may be the input."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self.channels, KernelEmitter(name, target)).emit()


class _Emitter:
    """Full vectors in a loop; the rest as the last lanes of a vector that ends with the channels.

    That vector lies over the one before it, whose numbers must count once: ``_only_rest`` puts
    another number in their place. Fewer channels than lanes are the first lanes of one vector.
    """

    def __init__(self, channels: int, e: KernelEmitter) -> None:
        self.e = e
        self.channels = channels
        lanes = e.target.lanes
        self.rest = channels % lanes
        self.whole = channels - self.rest  # channels in full vectors
        self.last = max(0, channels - lanes)  # where the last vector starts
        self.used = min(lanes, channels)  # and how many numbers it has

    def emit(self) -> str:
        e = self.e

        def row(image: Value, y: Value) -> None:
            x_row = row_pointer(e, Argument, "X", image, y)
            y_row = row_pointer(e, Argument, "Y", image, y)

            def pixel(place: Value) -> None:
                start = e.mul(place, self.channels)
                self._pixel(e.offset(x_row, start), e.offset(y_row, start))

            e.loop(0, e.argument(Argument.WIDTH), pixel)

        each_row(e, Argument, row)
        return e.text()

    def _pixel(self, x: Value, y: Value) -> None:
        e, b = self.e, self.e.builder
        # What the last vector reads is read before anything is written: y may be x.
        last = e.load(x, self.last, lanes=self.used)

        def greater(place: Value, best: Value) -> list[Value]:
            return [e.maximum(e.load(x, place), best)]

        (best,) = self._each(greater, e.splat(-math.inf))
        if self.rest:
            best = e.maximum(self._only_rest(last, -math.inf), best)
        greatest = e.fold(best, e.maximum)

        def power(place: Value, total: Value) -> list[Value]:
            value = exponential(e, b.fsub(e.load(x, place), greatest))
            e.store(value, y, place)
            return [b.fadd(total, value)]

        (total,) = self._each(power, e.splat(0.0))
        if self.rest:
            final = exponential(e, b.fsub(last, greatest))
            e.store(final, y, self.last, lanes=self.used)
            total = b.fadd(total, self._only_rest(final, 0.0))
        total = e.fold(total, b.fadd)
        last = e.load(y, self.last, lanes=self.used)

        def divide(place: Value) -> None:
            e.store(b.fdiv(e.load(y, place), total), y, place)

        e.loop(0, self.whole, divide, step=e.target.lanes)
        if self.rest:
            e.store(b.fdiv(last, total), y, self.last, lanes=self.used)

    def _each(self, body: Callable[..., list[Value]], start: Value) -> list[Value]:
        return self.e.loop(0, self.whole, body, step=self.e.target.lanes, carried=[start])

    def _only_rest(self, vector: Value, other: float) -> Value:
        """Return the last vector with ``other`` in the lanes that do not count."""
        lanes = self.e.target.lanes
        first = lanes - self.rest if self.whole else 0
        counts = [I1(first <= lane < first + self.rest) for lane in range(lanes)]
        mask = ir.Constant(ir.VectorType(I1, lanes), counts)
        return self.e.builder.select(mask, vector, self.e.splat(other))


def softmax_tasks(x: Plane, y: Plane, target: Target) -> list[Task]:
    """Write the softmax of x over its channels to y of the same shape."""
    _, _, w, c = x.shape
    # Each number moves five times in all, and exp takes the time of some moves more.
    cut, chunks = row_arguments(Argument, x, 8 * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        **cut,
        Argument.WIDTH: w,
    }
    return [Task(SoftmaxKernel(c), arguments, chunks)]
