"""From float32 to bytes and back, and halos of bytes.

The meaning is ``lushan.reference.quantization``. Parameters are tables of P·L numbers, L the lanes
of a vector: one number repeated (P = 1), or those of C channels (P = C), so that a row is walked
through vector by vector, whatever its channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.byte_emit import ByteEmitter
from lushan.cpu.emit import F32, I8, Value
from lushan.cpu.layout import Argument as HaloArgument
from lushan.cpu.layout import each_halo_line, halo_arguments
from lushan.cpu.rows import each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task


class Argument(IntEnum):
    """The arguments of both directions, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    LENGTH = auto()  # numbers of a row
    FACTOR = auto()  # tables: 1 / scale or scale
    ZERO_POINT = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@dataclass(frozen=True)
class QuantizeKernel:
    """Numbers to bytes, by tables of ``pattern`` vectors."""

    pattern: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)
        low = e.splat(0.0)

        def step(x: Value, y: Value, at: Value, in_table: Value, used: int) -> None:
            factor, zero_point = _parameters(e, in_table, used)
            v = e.builder.fmul(e.load(x, at, lanes=used), factor)
            v = e.builder.fadd(v, zero_point)
            e.store_bytes(e.floats_to_bytes(v, low), y, at, used=used)

        return _walk(e, self.pattern, (F32, I8), step)


@dataclass(frozen=True)
class DequantizeKernel:
    """Bytes to the numbers they stand for, by tables of ``pattern`` vectors."""

    pattern: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)

        def step(x: Value, y: Value, at: Value, in_table: Value, used: int) -> None:
            factor, zero_point = _parameters(e, in_table, used)
            v = e.bytes_to_floats(e.load_bytes(x, at, used=used))
            v = e.builder.fmul(e.builder.fsub(v, zero_point), factor)
            e.store(v, y, at, lanes=used)

        return _walk(e, self.pattern, (I8, F32), step)


# step(x row, y row, place in the row, place in the tables, how many numbers)
Step: TypeAlias = "Callable[[Value, Value, Value, Value, int], None]"


def _parameters(e: ByteEmitter, at: Value, used: int) -> list[Value]:
    tables = (e.absolute(Argument.FACTOR), e.absolute(Argument.ZERO_POINT))
    return [e.load(table, at, lanes=used) for table in tables]


def _walk(e: ByteEmitter, pattern: int, elements: tuple[Value, Value], step: Step) -> str:
    """Emit ``step`` for all numbers of the rows: whole tables first, then one by one."""
    lanes = e.target.lanes
    length = e.argument(Argument.LENGTH)
    whole = e.sub(length, e.divide(length, pattern * lanes)[1])

    def row(image: Value, y: Value) -> None:
        x_row = row_pointer(e, Argument, "X", image, y, elements[0])
        y_row = row_pointer(e, Argument, "Y", image, y, elements[1])

        def table(start: Value) -> None:
            e.loop(
                0,
                pattern * lanes,
                lambda at: step(x_row, y_row, e.add(start, at), at, lanes),
                step=lanes,
            )

        e.loop(0, whole, table, step=pattern * lanes)
        e.loop(whole, length, lambda at: step(x_row, y_row, at, e.sub(at, whole), 1))

    each_row(e, Argument, row)
    return e.text()


def quantize_tasks(
    x: Plane, y: Plane, tables: tuple[NDArray[np.float32], NDArray[np.float32]], target: Target
) -> list[Task]:
    """Write x, float32, as bytes to y; ``tables`` are 1 / scale and zero point, [P·L]."""
    kernel = QuantizeKernel(tables[0].size // target.lanes)
    return [_task(kernel, x, y, tables)]


def dequantize_tasks(
    x: Plane, y: Plane, tables: tuple[NDArray[np.float32], NDArray[np.float32]], target: Target
) -> list[Task]:
    """Write what the bytes of x stand for to y; ``tables`` are scale and zero point, [P·L]."""
    kernel = DequantizeKernel(tables[0].size // target.lanes)
    return [_task(kernel, x, y, tables)]


def _task(
    kernel: task.Kernel,
    x: Plane,
    y: Plane,
    tables: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Task:
    _, _, w, c = y.shape
    cut, chunks = row_arguments(Argument, y, 2 * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        **cut,
        Argument.LENGTH: w * c,
        Argument.FACTOR: tables[0],
        Argument.ZERO_POINT: tables[1],
    }
    return Task(kernel, arguments, chunks)


class HaloTable(IntEnum):
    """The argument of filling a halo of bytes after those of ``layout.Argument``."""

    TABLE = max(HaloArgument) + 1


@dataclass(frozen=True)
class ByteHaloKernel:
    """Writes the bytes of 0 all over the halo of a plane: one, or one for each channel.

    They are in a table of ``pattern`` times as many bytes as are stored at once.
    """

    pattern: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = ByteEmitter(name, target)
        count = halo_bytes(target)
        table = e.absolute(HaloTable.TABLE, I8)

        def fill(start: Value, length: Value) -> None:
            whole = e.sub(length, e.divide(length, self.pattern * count)[1])

            def vectors(at: Value) -> None:
                for place in range(0, self.pattern * count, count):
                    loaded = e.load_bytes(table, place, count=count)
                    e.store_bytes(loaded, start, e.add(at, place))

            def single(at: Value) -> None:
                loaded = e.load_bytes(table, e.sub(at, whole), count=1)
                e.store_bytes(loaded, start, at)

            e.loop(0, whole, vectors, step=self.pattern * count)
            e.loop(whole, length, single)

        each_halo_line(e, I8, fill)
        return e.text()


def halo_bytes(target: Target) -> int:
    """Return how many bytes of a halo are stored at once."""
    return 4 * target.lanes


def fill_byte_halo_tasks(plane: Plane, table: NDArray[np.uint8], target: Target) -> list[Task]:
    """Write ``table`` all over the halo of a plane, again and again."""
    if plane.is_dense:
        return []
    arguments, chunks = halo_arguments(plane)
    kernel = ByteHaloKernel(table.size // halo_bytes(target))
    return [Task(kernel, {**arguments, HaloTable.TABLE: table}, chunks)]
