"""The update of a parameter in place, and the norms that gradients are clipped by.

The meaning is ``lushan.reference.sgd``. Parameters and velocities are the program's own arrays;
gradients and numbers (rates, norms) lie in the arena. Squares are summed up in float64: slices of
a gradient by its size alone, lane by lane, then the lanes pairwise, then the slices in order.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.channel_sums import DOUBLE, F64, double, doubles
from lushan.cpu.emit import F32, I32, KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import SUM_SLICES, rows_per_chunk
from lushan.record import record

Array = NDArray[np.float32]


class UpdateArgument(IntEnum):
    """The arguments of the update, by place."""

    GRADIENT = 0  # and GRADIENT + 1
    LEARNING_RATE = 2  # and LEARNING_RATE + 1: one number each
    MOMENTUM = 4  # and MOMENTUM + 1
    WEIGHT_DECAY = 6  # and WEIGHT_DECAY + 1
    FACTOR = 8  # and FACTOR + 1
    PARAMETER = 10
    VELOCITY = auto()
    LENGTH = auto()
    LENGTH_PER_CHUNK = auto()


@record
class UpdateKernel:
    """One step of a parameter and its velocity; ``clipped`` says that there is a factor."""

    nesterov: bool
    clipped: bool

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, b = UpdateArgument, e.builder
        rate, momentum, decay = (
            e.broadcast(e.pointer(slot)) for slot in (a.LEARNING_RATE, a.MOMENTUM, a.WEIGHT_DECAY)
        )
        factor = e.broadcast(e.pointer(a.FACTOR)) if self.clipped else None
        each, length = e.argument(a.LENGTH_PER_CHUNK), e.argument(a.LENGTH)
        first = e.mul(e.chunk, each)
        count = e.lesser(each, e.sub(length, first))
        gradient, parameter, velocity = (
            e.offset(pointer, first)
            for pointer in (e.pointer(a.GRADIENT), e.absolute(a.PARAMETER), e.absolute(a.VELOCITY))
        )

        def step(place: Value, used: int) -> None:
            p, v, g = (e.load(x, place, lanes=used) for x in (parameter, velocity, gradient))
            if factor is not None:
                g = b.fmul(g, factor)
            g = e.fma(decay, p, g)
            v = e.fma(momentum, v, g)
            e.store(v, velocity, place, lanes=used)
            move = e.fma(momentum, v, g) if self.nesterov else v
            move = b.fmul(rate, move)
            e.store(b.fsub(p, move), parameter, place, lanes=used)

        # Not the last vector over the one before it: what is updated in place is read once.
        whole = e.mul(e.divide(count, target.lanes)[0], target.lanes)
        e.loop(0, whole, lambda place: step(place, target.lanes), step=target.lanes)
        e.loop(whole, count, lambda place: step(place, 1))
        return e.text()


def sgd_tasks(
    parameter: Array,
    velocity: Array,
    gradient: Plane,
    rates: tuple[Plane, Plane, Plane],
    factor: Plane | None,
    *,
    nesterov: bool,
) -> list[Task]:
    """Update ``parameter`` and ``velocity``; ``rates`` are learning rate, momentum and decay."""
    a = UpdateArgument
    size = parameter.size
    each = rows_per_chunk(size, 5 * FLOAT)
    arguments: dict[IntEnum, task.Argument] = {
        a.GRADIENT: gradient.at(),
        **{
            slot: plane.at()
            for slot, plane in zip(
                (a.LEARNING_RATE, a.MOMENTUM, a.WEIGHT_DECAY), rates, strict=True
            )
        },
        a.PARAMETER: parameter,
        a.VELOCITY: velocity,
        a.LENGTH: size,
        a.LENGTH_PER_CHUNK: each,
    }
    if factor is not None:
        arguments[a.FACTOR] = factor.at()
    return [Task(UpdateKernel(nesterov, factor is not None), arguments, -(-size // each))]


class SquaresArgument(IntEnum):
    """The arguments of sums of squares, by place."""

    X = 0  # and X + 1
    PARTIAL = 2  # and PARTIAL + 1: float64 [slices]
    LENGTH = 4
    LENGTH_PER_CHUNK = auto()


@record
class SquaresKernel:
    """The sum of squares of a slice."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, b, lanes = SquaresArgument, e.builder, target.lanes
        each = e.argument(a.LENGTH_PER_CHUNK)
        first = e.mul(e.chunk, each)
        count = e.lesser(each, e.sub(e.argument(a.LENGTH), first))
        x = e.offset(e.pointer(a.X), first)

        def square(vector: Value, total: Value) -> list[Value]:
            wide = double(e, vector)
            return [b.fadd(total, b.fmul(wide, wide))]

        whole = e.mul(e.divide(count, lanes)[0], lanes)
        (sums,) = e.loop(
            0,
            whole,
            lambda place, total: square(e.load(x, place), total),
            step=lanes,
            carried=[doubles(e, 0.0)],
        )
        (sums,) = e.loop(
            whole,
            count,
            lambda place, total: square(e.load(x, place, lanes=1), total),
            carried=[sums],
        )
        numbers = [b.extract_element(sums, I32(lane)) for lane in range(lanes)]
        while len(numbers) > 1:
            half = len(numbers) // 2
            numbers = [b.fadd(numbers[i], numbers[i + half]) for i in range(half)]
        b.store(numbers[0], e.offset(e.pointer(a.PARTIAL, F64), e.chunk), align=8)
        return e.text()


class NormArgument(IntEnum):
    """The arguments of a norm of slices, by place."""

    Y = 0  # and Y + 1
    PARTIAL = 2  # and PARTIAL + 1
    COUNT = 4


@record
class NormKernel:
    """The square root of a sum of float64 numbers, as one float32."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b, partial = e.builder, e.pointer(NormArgument.PARTIAL, F64)

        def add(index: Value, total: Value) -> list[Value]:
            return [b.fadd(total, b.load(e.offset(partial, index), align=8))]

        zero = ir.Constant(F64, 0.0)
        (total,) = e.loop(0, e.argument(NormArgument.COUNT), add, carried=[zero])
        b.store(_root(e, total), e.pointer(NormArgument.Y), align=4)
        return e.text()


def _root(e: KernelEmitter, number: Value) -> Value:
    """Return the square root of a float64, as a float32."""
    root = ir.Function(e.module, ir.FunctionType(F64, [F64]), "llvm.sqrt.f64")
    return e.builder.fptrunc(e.builder.call(root, [number]), F32)


def gradient_norm_tasks(gradient: Plane, y: Plane) -> tuple[list[Task], list[Plane]]:
    """Write the norm of a dense plane to y, a plane of one number."""
    size = gradient.bytes // FLOAT
    each = max(1, -(-size // SUM_SLICES))
    slices = -(-size // each)
    partial = Plane(f"{y.value} partial", (1, 1, 1, DOUBLE * slices))
    sums: dict[IntEnum, task.Argument] = {
        SquaresArgument.X: gradient.at(),
        SquaresArgument.PARTIAL: partial.at(),
        SquaresArgument.LENGTH: size,
        SquaresArgument.LENGTH_PER_CHUNK: each,
    }
    norm: dict[IntEnum, task.Argument] = {
        NormArgument.Y: y.at(),
        NormArgument.PARTIAL: partial.at(),
        NormArgument.COUNT: slices,
    }
    return [
        Task(SquaresKernel(), sums, slices),
        Task(NormKernel(), norm, 1, waits=True),
    ], [partial]


@record
class TotalNormKernel:
    """The norm of so many norms."""

    count: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b = e.builder
        total = ir.Constant(F64, 0.0)
        for number in range(self.count):
            norm = b.fpext(b.load(e.pointer(2 * (number + 1)), align=4), F64)
            total = b.fadd(total, b.fmul(norm, norm))
        b.store(_root(e, total), e.pointer(0), align=4)
        return e.text()


@record
class ClippingFactorKernel:
    """min(1, most / norm); NaN where the norm is."""

    most: float

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b = e.builder
        norm = b.load(e.pointer(2), align=4)
        one = ir.Constant(F32, 1.0)
        quotient = b.fdiv(ir.Constant(F32, float(np.float32(self.most))), norm)
        b.store(b.select(b.fcmp_ordered(">", quotient, one), one, quotient), e.pointer(0), align=4)
        return e.text()


def number_task(kernel: TotalNormKernel | ClippingFactorKernel, y: Plane, *inputs: Plane) -> Task:
    """Return the task of a kernel from numbers to one number."""
    # Places take two arguments each: that of y, then those of the inputs.
    planes = {f"PLANE_{number}": 2 * number for number in range(1 + len(inputs))}
    slots: list[IntEnum] = list(IntEnum("Slot", planes))  # type: ignore[call-overload]
    return Task(kernel, {s: p.at() for s, p in zip(slots, (y, *inputs), strict=True)}, 1)
