"""Moving values into planes: copies, and halos of one number.

A picture comes as a dense array and the first convolution wants its padding around it; and where
memory was used by something else in between, a halo has to be written again before it is read.
The meaning of the copy is the identity, that of the halo NumPy's ``pad``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.elementwise import elementwise_task, emit_elementwise
from lushan.cpu.emit import F32, I8, KernelEmitter, Value
from lushan.cpu.rows import each_vector
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel, Plane, Task
from lushan.cpu.tiling import rows_per_chunk
from lushan.record import record


class Argument(IntEnum):
    """The arguments of filling a halo, by place. Sizes and strides are in elements."""

    START = 0  # and START + 1: the first number of the plane, which is halo unless it has none
    IMAGE = 2  # from one picture to the next
    ROW = auto()
    HEIGHT = auto()  # real rows
    BEFORE = auto()  # numbers of halo before the first real pixel of a picture
    BETWEEN = auto()  # from the end of a real row to the start of the next
    AFTER = auto()  # after the last real pixel
    IMAGES = auto()
    IMAGES_PER_CHUNK = auto()
    PATTERN = auto()  # bytes that a line of halo is filled with, from a pixel on


@record
class CopyKernel:
    """Copies the real pixels of one plane to another."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return emit_elementwise(name, target, 1, lambda _, x: x)


@record
class HaloKernel:
    """Writes one number all over the halo of a plane, and nothing else."""

    value: float

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        number = e.splat(self.value)

        def fill(start: Value, length: Value) -> None:
            each_vector(e, length, (), start, lambda: number)

        return _emit_halo(e, F32, fill)


@record
class ByteHaloKernel:
    """Writes bytes all over the halo of a plane of bytes: those of each channel."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        pattern = e.absolute(Argument.PATTERN, I8)

        def fill(start: Value, length: Value) -> None:
            each_vector(e, length, (pattern,), start, lambda vector: vector)

        return _emit_halo(e, I8, fill)


def _emit_halo(e: KernelEmitter, element: ir.Type, fill: Callable[[Value, Value], None]) -> str:
    """Return a kernel that calls ``fill(start, length)`` for each line of halo.

    The halo of a picture is a line before its first row, one between each two rows (right of one,
    left of the next) and one after the last row. Each starts with a pixel.
    """
    plane = e.pointer(Argument.START, element)
    height, row = e.argument(Argument.HEIGHT), e.argument(Argument.ROW)
    before, between = e.argument(Argument.BEFORE), e.argument(Argument.BETWEEN)
    after = e.argument(Argument.AFTER)
    each = e.argument(Argument.IMAGES_PER_CHUNK)

    def picture(image: Value) -> None:
        start = e.offset(plane, e.mul(image, e.argument(Argument.IMAGE)))

        def row_end(y: Value) -> Value:
            """Return the address after the last real pixel of row y − 1."""
            return e.offset(start, e.sub(e.add(before, e.mul(y, row)), between))

        fill(start, before)
        e.loop(1, height, lambda y: fill(row_end(y), between))
        fill(row_end(height), after)

    first = e.mul(e.chunk, each)
    e.loop(first, e.lesser(e.add(first, each), e.argument(Argument.IMAGES)), picture)
    return e.text()


def copy_tasks(x: Plane, y: Plane, target: Target) -> list[Task]:
    """Copy x to the plane y of the same shape; a dense input of the program is a plane too."""
    return [elementwise_task(CopyKernel(), (x,), y)]


def fill_halo_tasks(
    plane: Plane, target: Target, *, value: float | NDArray[np.uint8] = 0.0
) -> list[Task]:
    """Write ``value`` all over the halo of a plane; nothing to do where there is none.

    For a plane of bytes it is the byte of each channel, [C].
    """
    if plane.is_dense:
        return []
    n, h, w, c = plane.shape
    _, bottom, left, right = plane.halo
    halo = plane.image - h * w * c
    each = rows_per_chunk(n, plane.itemsize * halo)
    lines: dict[IntEnum, int] = {
        Argument.BEFORE: plane.origin,
        Argument.BETWEEN: (left + right) * c,
        Argument.AFTER: right * c + bottom * plane.row,
    }
    arguments: dict[IntEnum, task.Argument] = {
        Argument.START: plane.at(0),
        Argument.IMAGE: plane.image,
        Argument.ROW: plane.row,
        Argument.HEIGHT: h,
        **lines,
        Argument.IMAGES: n,
        Argument.IMAGES_PER_CHUNK: each,
    }
    kernel: Kernel
    if isinstance(value, np.ndarray):
        kernel = ByteHaloKernel()
        arguments[Argument.PATTERN] = np.tile(value, max(lines.values()) // c)
    else:
        kernel = HaloKernel(value)
    return [Task(kernel, arguments, -(-n // each))]
