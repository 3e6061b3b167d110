"""Global average pooling of bytes: an exact sum, then one step of float32 back to bytes.

The meaning is ``lushan.reference.quantized_pooling.quantized_global_average_pooling``.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.byte_arithmetic import ByteArithmetic
from lushan.cpu.emit import I8, KernelEmitter, Value
from lushan.cpu.global_average_pooling import Argument, channel_groups, group_arguments
from lushan.cpu.rows import each_row, image_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record


@record
class QuantizedGlobalAveragePoolingKernel:
    """Means of planes of ``channels``."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        bytes_, b = ByteArithmetic(e), e.builder
        group, lanes = channel_groups(self.channels, target), target.lanes
        pieces = [(at, min(lanes, group - at)) for at in range(0, group, lanes)]
        height, width = e.argument(Argument.HEIGHT), e.argument(Argument.WIDTH)
        stride = e.argument(Argument.X_ROW)
        constants = e.absolute(Argument.CONSTANTS)
        multiplier, offset = e.broadcast(constants, 0), e.broadcast(constants, 1)

        def work(image: Value, number: Value) -> None:
            # The last group ends with the channels: it may lie over the one before it.
            first = e.lesser(e.mul(number, group), self.channels - group)
            x = e.offset(image_pointer(e, Argument, "X", image, I8), first)

            def row(h: Value, *sums: Value) -> list[Value]:
                line = e.offset(x, e.mul(h, stride))

                def pixel(w: Value, *sums: Value) -> list[Value]:
                    here = e.offset(line, e.mul(w, self.channels))
                    return [
                        b.add(total, b.zext(e.load(here, at, lanes=used), bytes_.integers))
                        for total, (at, used) in zip(sums, pieces, strict=True)
                    ]

                return e.loop(0, width, pixel, carried=sums)

            sums = e.loop(0, height, row, carried=[bytes_.zero()] * len(pieces))
            y = e.offset(image_pointer(e, Argument, "Y", image, I8), first)
            for total, (at, used) in zip(sums, pieces, strict=True):
                v = b.fadd(b.fmul(bytes_.sums_as_floats(total), multiplier), offset)
                e.store(bytes_.as_bytes(v, 0), y, at, lanes=used)

        each_row(e, Argument, work)
        return e.text()


def quantized_global_average_pooling_tasks(
    x: Plane, y: Plane, multiplier: np.float32, offset: np.float32, target: Target
) -> list[Task]:
    """Write the mean of each channel of the bytes x [N, H, W, C] to the bytes y [N, C].

    ``multiplier`` and ``offset`` are those of ``average_requantization`` in the reference.
    """
    _, h, w, c = x.shape
    constants: NDArray[np.float32] = np.array([multiplier / np.float32(h * w), offset], np.float32)
    arguments, chunks = group_arguments(x, y, target)
    more: dict[IntEnum, task.Argument] = {**arguments, Argument.CONSTANTS: constants}
    return [Task(QuantizedGlobalAveragePoolingKernel(c), more, chunks)]
