"""The zero-padding shortcut on bytes; residual sums are part of a convolution's end.

The meaning is ``lushan.reference.quantized_residual``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.byte_emit import ByteEmitter
from lushan.cpu.emit import I8, I32, Value
from lushan.cpu.residual import ShortcutArgument
from lushan.cpu.rows import each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task


class Zero(IntEnum):
    """The argument after those of ``residual.ShortcutArgument``."""

    ZERO = max(ShortcutArgument) + 1  # the byte that stands for 0


@dataclass(frozen=True)
class QuantizedZeroPaddingShortcutKernel:
    """Every ``stride``-th pixel, its channels between zeros: ``before`` of them before."""

    stride: int
    input_channels: int
    before: int
    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)
        after = self.before + self.input_channels
        zero = e.builder.load(e.absolute(Zero.ZERO, I8))

        def row(image: Value, y: Value) -> None:
            x_row = row_pointer(e, ShortcutArgument, "X", image, e.mul(y, self.stride), I8)
            y_row = row_pointer(e, ShortcutArgument, "Y", image, y, I8)

            def pixel(place: Value) -> None:
                x = e.offset(x_row, e.mul(place, self.stride * self.input_channels))
                y = e.offset(y_row, e.mul(place, self.channels))
                for start, count in e.pieces(self.input_channels):
                    e.store_bytes(e.load_bytes(x, start, count=count), y, self.before + start)
                for first, length in ((0, self.before), (after, self.channels - after)):
                    for start, count in e.pieces(length) if length else []:
                        e.store_bytes(_splat(e, zero, count), y, first + start)

            e.loop(0, e.argument(ShortcutArgument.OUTPUT_WIDTH), pixel)

        each_row(e, ShortcutArgument, row)
        return e.text()


def _splat(e: ByteEmitter, byte: Value, count: int) -> Value:
    undefined = ir.Constant(ir.VectorType(I8, count), ir.Undefined)
    single = e.builder.insert_element(undefined, byte, I32(0))
    mask = ir.Constant(ir.VectorType(I32, count), [I32(0)] * count)
    return e.builder.shuffle_vector(single, undefined, mask)


def quantized_zero_padding_shortcut_tasks(
    x: Plane, y: Plane, zero: NDArray[np.uint8], *, stride: int
) -> list[Task]:
    """Write every ``stride``-th pixel of x between bytes of ``zero`` to y, another value."""
    added = y.shape[3] - x.shape[3]
    kernel = QuantizedZeroPaddingShortcutKernel(stride, x.shape[3], added // 2, y.shape[3])
    cut, chunks = row_arguments(ShortcutArgument, y, y.shape[2] * (x.shape[3] + y.shape[3]) // 4)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(ShortcutArgument, X=x, Y=y),
        **cut,
        ShortcutArgument.OUTPUT_WIDTH: y.shape[2],
        Zero.ZERO: zero,
    }
    return [Task(kernel, arguments, chunks)]
