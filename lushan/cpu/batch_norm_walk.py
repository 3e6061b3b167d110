"""The second walk of batch norm: every number by a few constants of its channel.

    forward    y = activation(scale · x + shift + residual), the last two where they follow it
    backward   grad_x = scale · (grad_y − mean of grad_y) + slope · (x − mean)

What the constants are made of is in ``batch_norm_training`` and ``batch_norm_backward``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto

from lushan.cpu import task
from lushan.cpu.activation import Activation, activate
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import Piece, each_group, each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS
from lushan.record import record


class WalkArgument(IntEnum):
    """The arguments of the second walk, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    GRADIENT = 4  # and GRADIENT + 1
    COEFFICIENTS = 6  # and COEFFICIENTS + 1
    Y_ROW = 8
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    GRADIENT_ROW = auto()
    GRADIENT_IMAGE = auto()
    WIDTH = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()
    RESIDUAL = 18  # and RESIDUAL + 1
    RESIDUAL_ROW = 20
    RESIDUAL_IMAGE = auto()


@record
class WalkKernel:
    """The second walk, forward or backward; the output may be the input of the same place."""

    channels: int
    backward: bool
    residual: bool = False
    activation: Activation = "none"
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        coefficients = e.pointer(WalkArgument.COEFFICIENTS)
        names = ("X", *["GRADIENT"] * self.backward, *["RESIDUAL"] * self.residual)

        def row(image: Value, y: Value) -> None:
            lines = [row_pointer(e, WalkArgument, name, image, y) for name in names]
            out = row_pointer(e, WalkArgument, "Y", image, y)

            # Channels outside, pixels inside: the coefficients stay in registers.
            def group(first: Value, pieces: Sequence[Piece]) -> None:
                constants = [
                    [
                        e.load(coefficients, e.add(first, at + line * self.channels), lanes=used)
                        for line in range(4 if self.backward else 2)
                    ]
                    for at, used in pieces
                ]

                def pixel(place: Value) -> None:
                    start = e.add(e.mul(place, self.channels), first)
                    results = [
                        self._result(
                            e, [e.load(p, e.add(start, at), lanes=used) for p in lines], numbers
                        )
                        for (at, used), numbers in zip(pieces, constants, strict=True)
                    ]
                    for (at, used), result in zip(pieces, results, strict=True):
                        e.store(result, out, e.add(start, at), lanes=used)

                e.loop(0, e.argument(WalkArgument.WIDTH), pixel)

            each_group(e, self.channels, CHANNEL_VECTORS, group)

        each_row(e, WalkArgument, row)
        return e.text()

    def _result(self, e: KernelEmitter, loaded: list[Value], numbers: list[Value]) -> Value:
        b = e.builder
        if not self.backward:
            y = e.fma(loaded[0], numbers[0], numbers[1])
            if self.residual:
                y = b.fadd(y, loaded[1])
            return activate(e, self.activation, y, self.slope)
        x, gradient = loaded
        scale, mean_gradient, slope, mean = numbers
        along = b.fmul(slope, b.fsub(x, mean))
        return e.fma(scale, b.fsub(gradient, mean_gradient), along)


@record
class Following:
    """What follows batch norm on its way forward, and is done before the only store."""

    residual: Plane | None = None
    activation: Activation = "none"
    slope: float = 0.0


def walk_task(
    x: Plane,
    y: Plane,
    coefficients: Plane,
    gradient: Plane | None = None,
    following: Following | None = None,
) -> Task:
    """Return the task that makes y of x, with [2, C] coefficients; of grad_y too, with [4, C]."""
    _, _, w, c = x.shape
    after = following or Following()
    planes = {"X": x, "Y": y} | ({} if gradient is None else {"GRADIENT": gradient})
    planes |= {} if after.residual is None else {"RESIDUAL": after.residual}
    cut, chunks = row_arguments(WalkArgument, y, len(planes) * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(WalkArgument, **planes),
        **cut,
        WalkArgument.COEFFICIENTS: coefficients.at(),
        WalkArgument.WIDTH: w,
    }
    kernel = WalkKernel(
        c, gradient is not None, after.residual is not None, after.activation, after.slope
    )
    return Task(kernel, arguments, chunks, waits=True)
