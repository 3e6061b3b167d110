"""Pooling of bytes: the greatest byte of each window, and the mean of each channel.

The meaning is ``lushan.reference.quantized_pooling``. A window that reaches over the edge looks at
its real pixels only, so the input needs no halo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.byte_emit import ByteEmitter
from lushan.cpu.emit import F32, I8, Value
from lushan.cpu.rows import each_row, image_pointer, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS, rows_per_chunk


class Argument(IntEnum):
    """The arguments of both kernels, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    HEIGHT = auto()  # of x
    WIDTH = auto()
    OUTPUT_WIDTH = auto()
    NUMBERS = auto()  # of a mean: its multiplier and offset
    ROWS = auto()  # of y, or of work: one is a group of channels of a picture
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@dataclass(frozen=True)
class QuantizedMaxPoolingKernel:
    """The greatest bytes of windows; ``padding`` is top and left."""

    channels: int
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)
        height, width = e.argument(Argument.HEIGHT), e.argument(Argument.WIDTH)
        x_stride = e.argument(Argument.X_ROW)
        pieces = e.pieces(self.channels)

        def row(image: Value, y: Value) -> None:
            y_row = row_pointer(e, Argument, "Y", image, y, I8)
            x = image_pointer(e, Argument, "X", image, I8)
            first_row, rows = self._seen(e, 0, y, height)

            def pixel(place: Value) -> None:
                first_column, columns = self._seen(e, 1, place, width)
                start = e.add(e.mul(first_row, x_stride), e.mul(first_column, self.channels))
                output = e.mul(place, self.channels)
                for channel, count in pieces:
                    here = e.offset(x, e.add(start, channel))
                    best = self._greatest(e, here, rows, columns, count)
                    e.store_bytes(best, y_row, e.add(output, channel))

            e.loop(0, e.argument(Argument.OUTPUT_WIDTH), pixel)

        each_row(e, Argument, row)
        return e.text()

    def _seen(self, e: ByteEmitter, axis: int, place: Value, size: Value) -> tuple[Value, Value]:
        """Return the first row or column of x that a window sees, and how many."""
        start = e.sub(e.mul(place, self.stride[axis]), self.padding[axis])
        first = e.greater(start, 0)
        return first, e.sub(e.lesser(e.add(start, self.window[axis]), size), first)

    def _greatest(self, e: ByteEmitter, x: Value, rows: Value, columns: Value, count: int) -> Value:
        stride = e.argument(Argument.X_ROW)

        def line(h: Value, best: Value) -> Sequence[Value]:
            start = e.mul(h, stride)

            def pixel(w: Value, best: Value) -> Sequence[Value]:
                at = e.add(start, e.mul(w, self.channels))
                return [e.maximum_bytes(best, e.load_bytes(x, at, count=count))]

            return e.loop(0, columns, pixel, carried=[best])

        nothing = ir.Constant(ir.VectorType(I8, count), [0] * count)
        return e.loop(0, rows, line, carried=[nothing])[0]


def quantized_max_pooling_tasks(
    x: Plane,
    y: Plane,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> list[Task]:
    """Write the greatest byte of each window of x to y."""
    _, h, w, c = x.shape
    top, _, left, _ = padding
    cut, chunks = row_arguments(Argument, y, kernel[0] * kernel[1] * y.shape[2] * c // 4)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        **cut,
        Argument.HEIGHT: h,
        Argument.WIDTH: w,
        Argument.OUTPUT_WIDTH: y.shape[2],
    }
    return [Task(QuantizedMaxPoolingKernel(c, kernel, stride, (top, left)), arguments, chunks)]


@dataclass(frozen=True)
class QuantizedGlobalAveragePoolingKernel:
    """Means of planes of ``channels``, as bytes."""

    channels: int

    def group(self, target: Target) -> int:
        """Return how many channels are summed at a time."""
        vectors = min(CHANNEL_VECTORS, self.channels // target.lanes)
        return vectors * target.lanes or self.channels

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)
        group, lanes = self.group(target), target.lanes
        pieces = [(at, min(lanes, group - at)) for at in range(0, group, lanes)]
        height, width = e.argument(Argument.HEIGHT), e.argument(Argument.WIDTH)
        stride = e.argument(Argument.X_ROW)
        numbers = e.absolute(Argument.NUMBERS)
        pixels = e.splat(e.builder.sitofp(e.mul(height, width), F32))
        multiplier = e.builder.fdiv(e.broadcast(numbers, 0), pixels)
        offset = e.broadcast(numbers, 1)

        def work(image: Value, number: Value) -> None:
            # The last group ends with the channels: it may lie over the one before it.
            first = e.lesser(e.mul(number, group), self.channels - group)
            x = e.offset(image_pointer(e, Argument, "X", image, I8), first)

            def row(h: Value, *sums: Value) -> list[Value]:
                line = e.offset(x, e.mul(h, stride))

                def pixel(w: Value, *sums: Value) -> list[Value]:
                    here = e.offset(line, e.mul(w, self.channels))
                    loaded = [e.load_bytes(here, at, used=used) for at, used in pieces]
                    wide = [e.builder.zext(vector, e.integers) for vector in loaded]
                    return [e.builder.add(a, b) for a, b in zip(sums, wide, strict=True)]

                return e.loop(0, width, pixel, carried=sums)

            sums = e.loop(0, height, row, carried=[e.zero_sums()] * len(pieces))
            y = e.offset(image_pointer(e, Argument, "Y", image, I8), first)
            for total, (at, used) in zip(sums, pieces, strict=True):
                v = e.builder.fmul(e.integers_to_floats(total), multiplier)
                v = e.builder.fadd(v, offset)
                e.store_bytes(e.floats_to_bytes(v, e.splat(0.0)), y, at, used=used)

        each_row(e, Argument, work)
        return e.text()


def quantized_global_average_pooling_tasks(
    x: Plane, y: Plane, numbers: NDArray[np.float32], target: Target
) -> list[Task]:
    """Write the mean of each channel of x to y [N, C]; ``numbers`` are multiplier and offset."""
    n, h, w, c = x.shape
    kernel = QuantizedGlobalAveragePoolingKernel(c)
    group = kernel.group(target)
    groups = -(-c // group)
    each = rows_per_chunk(n * groups, h * w * group)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        Argument.HEIGHT: h,
        Argument.WIDTH: w,
        Argument.NUMBERS: numbers,
        Argument.ROWS: n * groups,
        Argument.ROWS_PER_IMAGE: groups,
        Argument.ROWS_PER_CHUNK: each,
    }
    return [Task(kernel, arguments, -(-n * groups // each))]
