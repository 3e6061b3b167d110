"""Global average pooling: the mean of each channel of each picture.

The meaning is ``lushan.reference.pooling.global_average_pooling``, which sums in float64; so does
this. The order of the sum: pixel after pixel of a row, row after row, one running float64 sum for
each channel, divided by the pixels and rounded to float32 once.
"""

from __future__ import annotations

from enum import IntEnum, auto

from llvmlite import ir

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import each_row, image_pointer, plane_arguments
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS, rows_per_chunk
from lushan.record import record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1: [N, C]
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    HEIGHT = auto()
    WIDTH = auto()
    ROWS = auto()  # of work: one is a group of channels of a picture
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()
    CONSTANTS = auto()  # of bytes: multiplier and offset


@record
class GlobalAveragePoolingKernel:
    """Means of planes of ``channels``."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        group, lanes = channel_groups(self.channels, target), target.lanes
        pieces = [(at, min(lanes, group - at)) for at in range(0, group, lanes)]
        wide = ir.VectorType(ir.DoubleType(), lanes)
        height, width = e.argument(Argument.HEIGHT), e.argument(Argument.WIDTH)
        stride = e.argument(Argument.X_ROW)
        count = e.builder.sitofp(e.mul(height, width), ir.DoubleType())
        counts = e.spread(count)

        def work(image: Value, number: Value) -> None:
            # The last group ends with the channels: it may lie over the one before it.
            first = e.lesser(e.mul(number, group), self.channels - group)
            x = e.offset(image_pointer(e, Argument, "X", image), first)

            def row(h: Value, *sums: Value) -> list[Value]:
                line = e.offset(x, e.mul(h, stride))

                def pixel(w: Value, *sums: Value) -> list[Value]:
                    here = e.offset(line, e.mul(w, self.channels))
                    return [
                        e.builder.fadd(total, e.builder.fpext(e.load(here, at, lanes=used), wide))
                        for total, (at, used) in zip(sums, pieces, strict=True)
                    ]

                return e.loop(0, width, pixel, carried=sums)

            zero = ir.Constant(wide, [0.0] * lanes)
            sums = e.loop(0, height, row, carried=[zero] * len(pieces))
            y = e.offset(image_pointer(e, Argument, "Y", image), first)
            for total, (at, used) in zip(sums, pieces, strict=True):
                mean = e.builder.fptrunc(e.builder.fdiv(total, counts), e.vector)
                e.store(mean, y, at, lanes=used)

        each_row(e, Argument, work)
        return e.text()


def channel_groups(channels: int, target: Target) -> int:
    """Return how many channels are summed at a time."""
    vectors = min(CHANNEL_VECTORS, channels // target.lanes)
    return vectors * target.lanes or channels


def group_arguments(x: Plane, y: Plane, target: Target) -> tuple[dict[IntEnum, task.Argument], int]:
    """Return the arguments of a task from x [N, H, W, C] to y [N, C], and its chunks."""
    n, h, w, c = x.shape
    group = channel_groups(c, target)
    groups = -(-c // group)
    each = rows_per_chunk(n * groups, x.itemsize * h * w * group)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        Argument.HEIGHT: h,
        Argument.WIDTH: w,
        Argument.ROWS: n * groups,
        Argument.ROWS_PER_IMAGE: groups,
        Argument.ROWS_PER_CHUNK: each,
    }
    return arguments, -(-n * groups // each)


def global_average_pooling_tasks(x: Plane, y: Plane, target: Target) -> list[Task]:
    """Write the mean of each channel of x [N, H, W, C] to y [N, C], a plane of one pixel."""
    arguments, chunks = group_arguments(x, y, target)
    return [Task(GlobalAveragePoolingKernel(x.shape[3]), arguments, chunks)]
