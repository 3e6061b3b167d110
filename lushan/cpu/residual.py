"""The residual sum, and the shortcut that picks pixels and adds channels of zeros.

The meaning is ``lushan.reference.residual``. Most sums are part of a convolution's epilogue;
these are for graphs where they cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto

from llvmlite import ir

from lushan.cpu import task
from lushan.cpu.activation import Activation, activate
from lushan.cpu.elementwise import elementwise_task, emit_elementwise
from lushan.cpu.emit import F32, I8, KernelEmitter, Value
from lushan.cpu.rows import (
    Piece,
    each_group,
    each_row,
    plane_arguments,
    row_arguments,
    row_pointer,
)
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS
from lushan.record import record


class ShortcutArgument(IntEnum):
    """The arguments of the zero-padding shortcut, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    OUTPUT_WIDTH = auto()
    ROWS = auto()  # of the output
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@record
class AddKernel:
    """The sum of two planes and an activation; the output may be either of them."""

    activation: Activation = "none"
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""

        def joined(e: KernelEmitter, branch: Value, shortcut: Value) -> Value:
            total = e.builder.fadd(branch, shortcut)
            return activate(e, self.activation, total, self.slope)

        return emit_elementwise(name, target, 2, joined)


@record
class ZeroPaddingShortcutKernel:
    """Every ``stride``-th pixel, its channels between zeros: ``before`` of them before.

    ``zero`` is the byte that stands for 0, None where numbers are float32.
    """

    stride: int
    input_channels: int
    before: int
    channels: int
    zero: int | None = None

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        after = self.before + self.input_channels
        element = F32 if self.zero is None else I8
        zeros = ir.Constant(ir.VectorType(element, target.lanes), [self.zero or 0] * target.lanes)

        def row(image: Value, y: Value) -> None:
            x_row = row_pointer(e, ShortcutArgument, "X", image, e.mul(y, self.stride), element)
            y_row = row_pointer(e, ShortcutArgument, "Y", image, y, element)

            def pixel(place: Value) -> None:
                x = e.offset(x_row, e.mul(place, self.stride * self.input_channels))
                y = e.offset(y_row, e.mul(place, self.channels))
                _fill(e, self.before, y, lambda place, used: zeros)
                _fill(
                    e,
                    self.input_channels,
                    e.offset(y, self.before),
                    lambda place, used: e.load(x, place, lanes=used),
                )
                _fill(e, self.channels - after, e.offset(y, after), lambda place, used: zeros)

            e.loop(0, e.argument(ShortcutArgument.OUTPUT_WIDTH), pixel)

        each_row(e, ShortcutArgument, row)
        return e.text()


def _fill(e: KernelEmitter, channels: int, y: Value, vector: Callable[[Value, int], Value]) -> None:
    """Write some channels of a pixel; ``vector`` maps a place and its lanes to what goes there."""

    def group(first: Value, pieces: Sequence[Piece]) -> None:
        for at, used in pieces:
            place = e.add(first, at)
            e.store(vector(place, used), y, place, lanes=used)

    if channels:
        each_group(e, channels, CHANNEL_VECTORS, group)


def add_tasks(
    branch: Plane,
    shortcut: Plane,
    y: Plane,
    target: Target,
    *,
    activation: Activation = "none",
    slope: float = 0.0,
) -> list[Task]:
    """Write branch + shortcut, and an activation of it, to y of the same shape."""
    return [elementwise_task(AddKernel(activation, slope), (branch, shortcut), y)]


def zero_padding_shortcut_tasks(
    x: Plane, y: Plane, target: Target, *, stride: int, zero: int | None = None
) -> list[Task]:
    """Write every ``stride``-th pixel of x and zeros to y, which must be another value.

    ``zero`` is the byte that stands for 0 in planes of bytes.
    """
    added = y.shape[3] - x.shape[3]
    kernel = ZeroPaddingShortcutKernel(stride, x.shape[3], added // 2, y.shape[3], zero)
    cut, chunks = row_arguments(ShortcutArgument, y, y.shape[2] * (x.shape[3] + y.shape[3]))
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(ShortcutArgument, X=x, Y=y),
        **cut,
        ShortcutArgument.OUTPUT_WIDTH: y.shape[2],
    }
    return [Task(kernel, arguments, chunks)]
