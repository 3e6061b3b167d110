"""The gradients of batch norm, with the statistics of the batch or with given ones.

The meaning is the backward of ``batch_norm_training`` and ``batch_norm`` of
``lushan.reference.batch_norm``. As on the way forward, there are two walks over the pictures: the
first for the sums of grad_y and of grad_y · (x − mean), the second writes every number. With
statistics that are given, there is no slope and nothing is taken from grad_y.
"""

from __future__ import annotations

from enum import IntEnum, auto

from lushan.cpu import task
from lushan.cpu.batch_norm_training import Parameter, inverse_deviation
from lushan.cpu.batch_norm_walk import walk_task
from lushan.cpu.channel_sums import F64, double, doubles, each_channel, single, sums_task, two_sums
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record


class BackwardArgument(IntEnum):
    """The arguments of what happens between the two walks backward, by place."""

    PARTIAL = 0  # and PARTIAL + 1: float64 [slices, 2, C]
    COEFFICIENTS = 2  # and COEFFICIENTS + 1: float32 [4, C]
    GRADIENT_WEIGHT = 4  # and GRADIENT_WEIGHT + 1
    GRADIENT_BIAS = 6  # and GRADIENT_BIAS + 1
    MEAN = 8  # and MEAN + 1, unless it is a parameter
    VARIANCE = 10  # and VARIANCE + 1, likewise
    SLICES = 12
    COUNT = auto()
    WEIGHT = auto()


@record
class BackwardStatisticsKernel:
    """From sums to gradients of weight and bias, and the numbers of the second walk.

    Those are scale, mean of grad_y, slope, mean of x. ``given`` says that the statistics are not
    of the batch: they are parameters.
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
        address = e.absolute if self.given else e.pointer
        mean_, variance_ = address(a.MEAN), address(a.VARIANCE)
        weight_, slices = e.absolute(a.WEIGHT), e.argument(a.SLICES)
        pixels = e.spread(b.sitofp(e.argument(a.COUNT), F64))

        def write(place: Value, used: int) -> None:
            total, product = two_sums(e, partial, self.channels, slices, place, used)
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


def batch_norm_backward_tasks(
    grad_y: Plane,
    x: Plane,
    outputs: tuple[Plane, Plane, Plane],
    weight: Parameter,
    statistics: tuple[Plane, Plane] | tuple[Parameter, Parameter],
    *,
    epsilon: float,
) -> tuple[list[Task], list[Plane]]:
    """Write the gradients of x, weight and bias to ``outputs``.

    ``statistics`` are mean and variance: planes of [C] that have those of the batch, or given
    parameters.
    """
    grad_x, grad_weight, grad_bias = outputs
    c = x.shape[3]
    name = grad_x.value
    mean, variance = (s.at() if isinstance(s, Plane) else s for s in statistics)
    given = not isinstance(statistics[0], Plane)
    sums, partial, slices = sums_task("gradient", x, f"{name} partial", grad_y, mean)
    coefficients = Plane(f"{name} coefficients", (1, 1, 4, c))
    a = BackwardArgument
    arguments: dict[IntEnum, task.Argument] = {
        a.PARTIAL: partial.at(),
        a.COEFFICIENTS: coefficients.at(),
        a.GRADIENT_WEIGHT: grad_weight.at(),
        a.GRADIENT_BIAS: grad_bias.at(),
        a.MEAN: mean,
        a.VARIANCE: variance,
        a.SLICES: slices,
        a.COUNT: x.shape[0] * x.shape[1] * x.shape[2],
        a.WEIGHT: weight,
    }
    between = Task(BackwardStatisticsKernel(c, epsilon, given), arguments, 1, waits=True)
    walk = walk_task(x, grad_x, coefficients, grad_y)
    return [sums, between, walk], [partial, coefficients]
