"""Quantising and dequantising: float32 to bytes and back, number by number.

The meaning is ``lushan.reference.quantization``. Scales and zero points are single numbers, or one
for each channel; either way they are laid out for a whole row of pixels, so that a row is one line
of numbers, whatever its channels.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.byte_arithmetic import ByteArithmetic
from lushan.cpu.emit import F32, I8, KernelEmitter, Value
from lushan.cpu.rows import each_row, each_vector, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel, Plane, Task
from lushan.cpu.tiling import PICTURE_AHEAD
from lushan.record import record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()
    LENGTH = auto()  # numbers of a row
    FACTORS = auto()  # [LENGTH]: reciprocals of the scales, or the scales
    ZERO_POINTS = auto()  # [LENGTH]


@record
class QuantizationKernel:
    """y = x · (1 / scale) + zero point, clamped and rounded."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        bytes_ = ByteArithmetic(e)

        def row(image: Value, y: Value) -> None:
            sources = _sources(e, row_pointer(e, Argument, "X", image, y))

            def number(x: Value, factor: Value, zero_point: Value) -> Value:
                v = e.builder.fadd(e.builder.fmul(x, factor), zero_point)
                return bytes_.as_bytes(v, 0)

            place = row_pointer(e, Argument, "Y", image, y, I8)
            each_vector(e, e.argument(Argument.LENGTH), sources, place, number, ahead=PICTURE_AHEAD)

        each_row(e, Argument, row)
        return e.text()


@record
class DequantizationKernel:
    """y = (x − zero point) · scale."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        bytes_ = ByteArithmetic(e)

        def row(image: Value, y: Value) -> None:
            sources = _sources(e, row_pointer(e, Argument, "X", image, y, I8))

            def number(x: Value, factor: Value, zero_point: Value) -> Value:
                return e.builder.fmul(e.builder.fsub(bytes_.bytes_as_floats(x), zero_point), factor)

            place = row_pointer(e, Argument, "Y", image, y, F32)
            each_vector(e, e.argument(Argument.LENGTH), sources, place, number)

        each_row(e, Argument, row)
        return e.text()


def _sources(e: KernelEmitter, x: Value) -> list[Value]:
    return [x, *(e.absolute(slot) for slot in (Argument.FACTORS, Argument.ZERO_POINTS))]


def quantization_tasks(
    x: Plane, y: Plane, scale: NDArray[np.float32], zero_point: NDArray[np.float32]
) -> list[Task]:
    """Write x as bytes to y; ``scale`` and ``zero_point`` are () or [C]."""
    reciprocal = (1.0 / scale.astype(np.float64)).astype(np.float32)
    return [_task(QuantizationKernel(), x, y, reciprocal, zero_point)]


def dequantization_tasks(
    x: Plane, y: Plane, scale: NDArray[np.float32], zero_point: NDArray[np.float32]
) -> list[Task]:
    """Write what the bytes of x stand for to y; ``scale`` and ``zero_point`` are () or [C]."""
    return [_task(DequantizationKernel(), x, y, scale, zero_point)]


def _task(
    kernel: Kernel,
    x: Plane,
    y: Plane,
    factor: NDArray[np.float32],
    zero_point: NDArray[np.float32],
) -> Task:
    _, _, w, c = y.shape

    def line(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(np.broadcast_to(numbers, (w, c)), np.float32)

    cut, chunks = row_arguments(Argument, y, 2 * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        **cut,
        Argument.LENGTH: w * c,
        Argument.FACTORS: line(factor),
        Argument.ZERO_POINTS: line(zero_point),
    }
    return Task(kernel, arguments, chunks)
