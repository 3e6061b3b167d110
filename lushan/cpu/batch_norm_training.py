"""Batch norm with the statistics of the batch, or with given ones that may change.

The meaning is ``batch_norm_training`` of ``lushan.reference.batch_norm``; the gradients are in
``batch_norm_backward``. Both walk over the pictures twice: first for two sums of each channel in
float64 (``channel_sums``), then to write every number (``batch_norm_walk``). In between, one chunk
makes of the sums, in float64, what the second walk multiplies and adds, each rounded to float32
once.

The variance is the mean of x² less that of x, squared: in float64 a mean a million times the
deviation costs four digits of sixteen. With statistics that are given there is no first walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.batch_norm_walk import Following, walk_task
from lushan.cpu.channel_sums import F64, double, doubles, each_channel, single, sums_task, two_sums
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record

Parameter = NDArray[Any]


class ForwardArgument(IntEnum):
    """The arguments of what happens between the two walks forward, by place."""

    PARTIAL = 0  # and PARTIAL + 1: float64 [slices, 2, C]
    SCALE = 2  # and SCALE + 1: float32 [2, C], the shift after it
    MEAN = 4  # and MEAN + 1
    VARIANCE = 6  # and VARIANCE + 1
    SLICES = 8
    COUNT = auto()  # pixels
    WEIGHT = auto()
    BIAS = auto()
    RUNNING_MEAN = auto()
    RUNNING_VARIANCE = auto()


@record
class StatisticsKernel:
    """From sums to statistics, scale and shift; moves the running statistics."""

    channels: int
    epsilon: float
    momentum: float

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, b = ForwardArgument, e.builder
        partial, scale = e.pointer(a.PARTIAL, F64), e.pointer(a.SCALE)
        mean_, variance_ = e.pointer(a.MEAN), e.pointer(a.VARIANCE)
        weight, bias = e.absolute(a.WEIGHT), e.absolute(a.BIAS)
        running = [e.absolute(slot) for slot in (a.RUNNING_MEAN, a.RUNNING_VARIANCE)]
        slices = e.argument(a.SLICES)
        count = b.sitofp(e.argument(a.COUNT), F64)
        pixels = e.spread(count)
        unbiased = e.spread(b.fdiv(count, b.fsub(count, ir.Constant(F64, 1.0))))

        def write(place: Value, used: int) -> None:
            sums = two_sums(e, partial, self.channels, slices, place, used)
            mean, square = (b.fdiv(total, pixels) for total in sums)
            variance = b.fsub(square, b.fmul(mean, mean))
            zero = doubles(e, 0.0)  # a NaN stays
            variance = b.select(b.fcmp_ordered("<", variance, zero), zero, variance)
            e.store(single(e, mean), mean_, place, lanes=used)
            e.store(single(e, variance), variance_, place, lanes=used)
            _store_scale(e, scale, self, (weight, bias), (mean, variance), place, used)
            for pointer, new in zip(running, (mean, b.fmul(variance, unbiased)), strict=True):
                old = double(e, e.load(pointer, place, lanes=used))
                moved = b.fadd(
                    b.fmul(old, doubles(e, 1 - self.momentum)),
                    b.fmul(new, doubles(e, self.momentum)),
                )
                e.store(single(e, moved), pointer, place, lanes=used)

        each_channel(e, self.channels, write)
        return e.text()


class GivenArgument(IntEnum):
    """The arguments of making a scale and a shift of given statistics, by place."""

    SCALE = 0  # and SCALE + 1
    WEIGHT = 2
    BIAS = auto()
    MEAN = auto()
    VARIANCE = auto()


@record
class GivenStatisticsKernel:
    """From parameters to scale and shift, each time anew."""

    channels: int
    epsilon: float

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a = GivenArgument
        scale = e.pointer(a.SCALE)
        weight, bias, mean, variance = (
            e.absolute(slot) for slot in (a.WEIGHT, a.BIAS, a.MEAN, a.VARIANCE)
        )

        def write(place: Value, used: int) -> None:
            statistics = [double(e, e.load(p, place, lanes=used)) for p in (mean, variance)]
            _store_scale(e, scale, self, (weight, bias), statistics, place, used)

        each_channel(e, self.channels, write)
        return e.text()


def _store_scale(
    e: KernelEmitter,
    scale: Value,
    kernel: StatisticsKernel | GivenStatisticsKernel,
    parameters: Sequence[Value],
    statistics: Sequence[Value],
    place: Value,
    used: int,
) -> None:
    """Store scale and shift of some channels; the shift belongs to the rounded scale."""
    b = e.builder
    weight, bias = (double(e, e.load(pointer, place, lanes=used)) for pointer in parameters)
    mean, variance = statistics
    factor = single(e, b.fmul(weight, inverse_deviation(e, variance, kernel.epsilon)))
    shift = b.fsub(bias, b.fmul(mean, double(e, factor)))
    e.store(factor, scale, place, lanes=used)
    e.store(single(e, shift), scale, e.add(place, kernel.channels), lanes=used)


def inverse_deviation(e: KernelEmitter, variance: Value, epsilon: float) -> Value:
    """Return 1 / sqrt(variance + epsilon) of a vector of float64."""
    b = e.builder
    name = f"llvm.sqrt.v{e.target.lanes}f64"
    known = e.module.globals.get(name)
    root = known or ir.Function(e.module, ir.FunctionType(variance.type, [variance.type]), name)
    return b.fdiv(doubles(e, 1.0), b.call(root, [b.fadd(variance, doubles(e, epsilon))]))


def batch_norm_training_tasks(
    x: Plane,
    y: Plane,
    statistics: tuple[Plane, Plane],
    parameters: Sequence[Parameter],
    *,
    epsilon: float,
    momentum: float,
    following: Following | None = None,
) -> tuple[list[Task], list[Plane]]:
    """Normalise x to y; write mean and variance [C], and move the running ones.

    ``parameters`` are weight, bias, running mean and running variance. y is what ``following``
    makes of the result.
    """
    c = x.shape[3]
    sums, partial, slices = sums_task("moments", x, f"{y.value} partial")
    scale = Plane(f"{y.value} scale", (1, 1, 2, c))
    a = ForwardArgument
    arguments: dict[IntEnum, task.Argument] = {
        a.PARTIAL: partial.at(),
        a.SCALE: scale.at(),
        a.MEAN: statistics[0].at(),
        a.VARIANCE: statistics[1].at(),
        a.SLICES: slices,
        a.COUNT: x.shape[0] * x.shape[1] * x.shape[2],
        **dict(
            zip((a.WEIGHT, a.BIAS, a.RUNNING_MEAN, a.RUNNING_VARIANCE), parameters, strict=True)
        ),
    }
    between = Task(StatisticsKernel(c, epsilon, momentum), arguments, 1, waits=True)
    walk = walk_task(x, y, scale, following=following)
    return [sums, between, walk], [partial, scale]


def batch_norm_given_tasks(
    x: Plane, y: Plane, parameters: Sequence[Parameter], *, epsilon: float
) -> tuple[list[Task], list[Plane]]:
    """Normalise x to y with ``parameters`` that may change: weight, bias, mean and variance."""
    c = x.shape[3]
    scale = Plane(f"{y.value} scale", (1, 1, 2, c))
    a = GivenArgument
    arguments: dict[IntEnum, task.Argument] = {
        a.SCALE: scale.at(),
        **dict(zip((a.WEIGHT, a.BIAS, a.MEAN, a.VARIANCE), parameters, strict=True)),
    }
    return [Task(GivenStatisticsKernel(c, epsilon), arguments, 1), walk_task(x, y, scale)], [scale]
