"""Batch norm with the statistics of the batch, forward and backward.

The meaning is ``batch_norm_training`` of ``lushan.reference.batch_norm``, and its backward. Both
walk over the pictures twice: first for two sums of each channel in float64 (``channel_sums``), then
to write every number. In between, one chunk makes of the sums, in float64, what the second walk
multiplies and adds, each rounded to float32 once:

    forward    mean, variance     y = scale · x + shift
    backward   gradients          grad_x = scale · (grad_y − mean of grad_y) + slope · (x − mean)

The variance is the mean of x² less that of x, squared: in float64 a mean a million times the
deviation costs four digits of sixteen. With statistics that are given, the backward pass has no
slope and takes nothing from grad_y, and the forward pass has no first walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.channel_sums import F64, double, doubles, each_channel, joined, single, sums_task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import Piece, each_group, each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS

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


@dataclass(frozen=True)
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
            sums = _two_sums(e, partial, self.channels, slices, place, used)
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


def _two_sums(
    e: KernelEmitter, partial: Value, channels: int, slices: Value, place: Value, used: int
) -> list[Value]:
    """Return both sums of some channels, of slices [2, C]."""
    starts = [e.offset(partial, e.add(place, which * channels)) for which in range(2)]
    return [joined(e, start, slices, e.integer(2 * channels), used) for start in starts]


class GivenArgument(IntEnum):
    """The arguments of making a scale and a shift of given statistics, by place."""

    SCALE = 0  # and SCALE + 1
    WEIGHT = 2
    BIAS = auto()
    MEAN = auto()
    VARIANCE = auto()


@dataclass(frozen=True)
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


class BackwardArgument(IntEnum):
    """The arguments of what happens between the two walks backward, by place."""

    PARTIAL = 0  # and PARTIAL + 1: float64 [slices, 2, C]
    COEFFICIENTS = 2  # and COEFFICIENTS + 1: float32 [4, C]
    GRADIENT_WEIGHT = 4  # and GRADIENT_WEIGHT + 1
    GRADIENT_BIAS = 6  # and GRADIENT_BIAS + 1
    MEAN = 8  # and MEAN + 1
    VARIANCE = 10  # and VARIANCE + 1
    SLICES = 12
    COUNT = auto()
    WEIGHT = auto()


@dataclass(frozen=True)
class BackwardStatisticsKernel:
    """From sums to gradients of weight and bias, and the numbers of the second walk.

    Those are scale, mean of grad_y, slope, mean of x. ``given`` says that the statistics are not
    of the batch.
    """

    channels: int
    epsilon: float
    given: bool

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, b = BackwardArgument, e.builder
        partial, coefficients = e.pointer(a.PARTIAL, F64), e.pointer(a.COEFFICIENTS)
        gradients = [e.pointer(slot) for slot in (a.GRADIENT_BIAS, a.GRADIENT_WEIGHT)]
        mean_, variance_ = e.pointer(a.MEAN), e.pointer(a.VARIANCE)
        weight_, slices = e.absolute(a.WEIGHT), e.argument(a.SLICES)
        pixels = e.spread(b.sitofp(e.argument(a.COUNT), F64))

        def write(place: Value, used: int) -> None:
            total, product = _two_sums(e, partial, self.channels, slices, place, used)
            mean, variance, weight = (
                double(e, e.load(p, place, lanes=used)) for p in (mean_, variance_, weight_)
            )
            inverse = inverse_deviation(e, variance, self.epsilon)
            grad_weight = b.fmul(product, inverse)
            for pointer, gradient in zip(gradients, (total, grad_weight), strict=True):
                e.store(single(e, gradient), pointer, place, lanes=used)
            scale = b.fmul(weight, inverse)
            if self.given:
                numbers = [scale, doubles(e, 0.0), doubles(e, 0.0), mean]
            else:
                slope = b.fmul(b.fmul(scale, inverse), b.fdiv(grad_weight, pixels))
                slope = b.fsub(doubles(e, 0.0), slope)
                numbers = [scale, b.fdiv(total, pixels), slope, mean]
            for line, number in enumerate(numbers):
                at = e.add(place, line * self.channels)
                e.store(single(e, number), coefficients, at, lanes=used)

        each_channel(e, self.channels, write)
        return e.text()


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


@dataclass(frozen=True)
class WalkKernel:
    """The second walk, forward or backward; the output may be the input of the same place."""

    channels: int
    backward: bool

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        coefficients = e.pointer(WalkArgument.COEFFICIENTS)
        names = ("X", "GRADIENT") if self.backward else ("X",)

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
            return e.fma(loaded[0], numbers[0], numbers[1])
        x, gradient = loaded
        scale, mean_gradient, slope, mean = numbers
        along = b.fmul(slope, b.fsub(x, mean))
        return e.fma(scale, b.fsub(gradient, mean_gradient), along)


def _walk(x: Plane, y: Plane, coefficients: Plane, gradient: Plane | None = None) -> Task:
    _, _, w, c = x.shape
    planes = {"X": x, "Y": y} | ({} if gradient is None else {"GRADIENT": gradient})
    cut, chunks = row_arguments(WalkArgument, y, len(planes) * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(WalkArgument, **planes),
        **cut,
        WalkArgument.COEFFICIENTS: coefficients.at(),
        WalkArgument.WIDTH: w,
    }
    return Task(WalkKernel(c, gradient is not None), arguments, chunks, waits=True)


def batch_norm_training_tasks(
    x: Plane,
    y: Plane,
    statistics: tuple[Plane, Plane],
    parameters: Sequence[Parameter],
    *,
    epsilon: float,
    momentum: float,
) -> tuple[list[Task], list[Plane]]:
    """Normalise x to y; write mean and variance [C], and move the running ones.

    ``parameters`` are weight, bias, running mean and running variance.
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
    return [sums, between, _walk(x, y, scale)], [partial, scale]


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
    return [Task(GivenStatisticsKernel(c, epsilon), arguments, 1), _walk(x, y, scale)], [scale]


def batch_norm_backward_tasks(
    grad_y: Plane,
    x: Plane,
    outputs: tuple[Plane, Plane, Plane],
    weight: Parameter,
    statistics: tuple[Plane, Plane],
    *,
    epsilon: float,
    given: bool,
    after: bool,
) -> tuple[list[Task], list[Plane]]:
    """Write the gradients of x, weight and bias to ``outputs``; ``statistics`` are planes of [C].

    ``given`` says that these are not those of the batch, ``after`` that other tasks of the step
    write them.
    """
    grad_x, grad_weight, grad_bias = outputs
    c = x.shape[3]
    name = grad_x.value
    sums, partial, slices = sums_task("gradient", x, f"{name} partial", grad_y, statistics[0])
    coefficients = Plane(f"{name} coefficients", (1, 1, 4, c))
    a = BackwardArgument
    arguments: dict[IntEnum, task.Argument] = {
        a.PARTIAL: partial.at(),
        a.COEFFICIENTS: coefficients.at(),
        a.GRADIENT_WEIGHT: grad_weight.at(),
        a.GRADIENT_BIAS: grad_bias.at(),
        a.MEAN: statistics[0].at(),
        a.VARIANCE: statistics[1].at(),
        a.SLICES: slices,
        a.COUNT: x.shape[0] * x.shape[1] * x.shape[2],
        a.WEIGHT: weight,
    }
    between = Task(BackwardStatisticsKernel(c, epsilon, given), arguments, 1, waits=True)
    walk = _walk(x, grad_x, coefficients, grad_y)
    return [replace(sums, waits=after), between, walk], [partial, coefficients]


class CopyArgument(IntEnum):
    """The arguments of copying a parameter, by place."""

    Y = 0  # and Y + 1
    PARAMETER = 2


@dataclass(frozen=True)
class ParameterKernel:
    """Copies a parameter [C] to a plane."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        y, parameter = e.pointer(CopyArgument.Y), e.absolute(CopyArgument.PARAMETER)

        def copy(place: Value, used: int) -> None:
            e.store(e.load(parameter, place, lanes=used), y, place, lanes=used)

        each_channel(e, self.channels, copy)
        return e.text()


def parameter_tasks(parameter: Parameter, y: Plane) -> list[Task]:
    """Write a parameter [C] to y, a plane of [C]."""
    arguments: dict[IntEnum, task.Argument] = {
        CopyArgument.Y: y.at(),
        CopyArgument.PARAMETER: parameter,
    }
    return [Task(ParameterKernel(parameter.size), arguments, 1)]
