"""Softmax cross entropy of scores [N, K] and targets [N, K]: the loss, and its gradient.

The meaning is ``lushan.reference.cross_entropy``. Of each picture the greatest score is subtracted
first; exp is that of ``exponential``, in float32; everything that is summed up is summed up in
float64: over the classes lane by lane, then the lanes pairwise, then the pictures in order. So is
the logarithm, one for each picture:

    log(s) = n · log 2 + 2 · (z + z³/3 + z⁵/5 + …),   z = (m − 1) / (m + 1),   s = m · 2ⁿ

with m from √½ to √2, where |z| ≤ 0.172 and nine terms leave an error below 1e-15.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from typing import Literal

from llvmlite import ir

from lushan.cpu import task
from lushan.cpu.channel_sums import DOUBLE, F64, double, doubles, each_channel, single
from lushan.cpu.emit import F32, I1, I32, I64, KernelEmitter, Value
from lushan.cpu.exponential import exponential
from lushan.cpu.rows import each_row, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record

_TERMS = 9


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1: the gradient [N, K], or float64 [N] losses
    X = 2  # and X + 1: scores
    TARGET = 4  # and TARGET + 1
    Y_ROW = 6
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    TARGET_ROW = auto()
    TARGET_IMAGE = auto()
    ROWS = auto()  # pictures
    ROWS_PER_IMAGE = auto()  # 1
    ROWS_PER_CHUNK = auto()


class MeanArgument(IntEnum):
    """The arguments of the mean of the losses, by place."""

    Y = 0  # and Y + 1: one float32
    LOSSES = 2  # and LOSSES + 1: float64 [N]
    COUNT = 4


@record
class CrossEntropyKernel:
    """The loss of each picture, or its gradient."""

    classes: int
    label_smoothing: float
    result: Literal["loss", "gradient"]

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, KernelEmitter(name, target)).emit()


class _Emitter:
    def __init__(self, kernel: CrossEntropyKernel, e: KernelEmitter) -> None:
        self.kernel = kernel
        self.e = e

    def emit(self) -> str:
        e, kernel = self.e, self.kernel
        losses = e.pointer(Argument.Y, F64) if kernel.result == "loss" else None
        count = e.builder.sitofp(e.argument(Argument.ROWS), F64)

        def picture(image: Value, y: Value) -> None:
            scores = row_pointer(e, Argument, "X", image, y)
            target = row_pointer(e, Argument, "TARGET", image, y)
            best = self._greatest(scores)
            if losses is not None:
                loss = self._loss(scores, target, best)
                e.builder.store(loss, e.offset(losses, image), align=8)
            else:
                gradient = row_pointer(e, Argument, "Y", image, y)
                self._gradient(scores, target, best, gradient, count)

        each_row(e, Argument, picture)
        return e.text()

    def _greatest(self, scores: Value) -> Value:
        """Return a vector of the greatest score; a NaN wins."""
        e, b = self.e, self.e.builder

        def greater(best: Value, x: Value) -> Value:
            nan = b.fcmp_unordered("uno", best, best)
            return b.select(nan, best, b.select(b.fcmp_unordered(">", x, best), x, best))

        (best,) = self._each(
            [e.splat(-math.inf)],
            lambda place, used, best: [
                greater(best, self._only(e.load(scores, place, lanes=used), used, -math.inf))
            ],
        )
        return e.fold(best, greater)

    def _target(self, target: Value, place: Value, used: int) -> Value:
        """Return some numbers of the smoothed target, 0 beyond the classes."""
        e, b, kernel = self.e, self.e.builder, self.kernel
        q = e.load(target, place, lanes=used)
        if kernel.label_smoothing:
            kept = e.splat(1 - kernel.label_smoothing)
            share = e.splat(kernel.label_smoothing / kernel.classes)
            q = self._only(b.fadd(b.fmul(q, kept), share), used, 0.0)
        return double(e, q)

    def _power(self, scores: Value, place: Value, used: int, best: Value) -> Value:
        """Return exp(score − greatest) of some classes, 0 beyond them."""
        e = self.e
        shifted = e.builder.fsub(e.load(scores, place, lanes=used), best)
        return self._only(exponential(e, shifted), used, 0.0)

    def _loss(self, scores: Value, target: Value, best: Value) -> Value:
        """Return the sum of q · (log of the sum of powers − (score − greatest)), a float64."""
        e, b = self.e, self.e.builder

        def add(place: Value, used: int, *sums: Value) -> list[Value]:
            power = double(e, self._power(scores, place, used, best))
            q = self._target(target, place, used)
            shifted = b.fsub(double(e, e.load(scores, place, lanes=used)), double(e, best))
            # What is beyond the classes is 0 times minus the greatest score, which may be infinite.
            product = self._only(b.fmul(q, shifted), used, 0.0)
            return [b.fadd(t, n) for t, n in zip(sums, (power, q, product), strict=True)]

        powers, weight, product = (
            b.extract_element(e.fold(total, b.fadd), I32(0))
            for total in self._each([doubles(e, 0.0)] * 3, add)
        )
        return b.fsub(b.fmul(weight, logarithm(e, powers)), product)

    def _gradient(
        self, scores: Value, target: Value, best: Value, gradient: Value, count: Value
    ) -> None:
        """Store (softmax · sum of q − q) / N."""
        e, b = self.e, self.e.builder

        def add(place: Value, used: int, *sums: Value) -> list[Value]:
            power = double(e, self._power(scores, place, used, best))
            q = self._target(target, place, used)
            return [b.fadd(sums[0], power), b.fadd(sums[1], q)]

        powers, weight = (e.fold(total, b.fadd) for total in self._each([doubles(e, 0.0)] * 2, add))
        factor, pictures = b.fdiv(weight, powers), e.spread(count)

        def write(place: Value, used: int) -> None:
            power = double(e, self._power(scores, place, used, best))
            said = b.fsub(b.fmul(power, factor), self._target(target, place, used))
            e.store(single(e, b.fdiv(said, pictures)), gradient, place, lanes=used)

        each_channel(e, self.kernel.classes, write)

    def _each(self, start: Sequence[Value], body: Callable[..., list[Value]]) -> list[Value]:
        """Carry values through all classes: whole vectors, then the rest."""
        e = self.e
        lanes, classes = e.target.lanes, self.kernel.classes
        whole = classes - classes % lanes
        carried = e.loop(
            0, whole, lambda place, *c: body(place, lanes, *c), step=lanes, carried=start
        )
        return body(e.integer(whole), classes - whole, *carried) if classes > whole else carried

    def _only(self, vector: Value, used: int, other: float) -> Value:
        """Return a vector with ``other`` in the lanes that do not count."""
        lanes = self.e.target.lanes
        if used == lanes:
            return vector
        mask = ir.Constant(ir.VectorType(I1, lanes), [I1(lane < used) for lane in range(lanes)])
        element = vector.type.element
        others = ir.Constant(vector.type, [ir.Constant(element, other)] * lanes)
        return self.e.builder.select(mask, vector, others)


def logarithm(e: KernelEmitter, number: Value) -> Value:
    """Return log of a float64 that is normal and positive, or NaN; exact to some 1e-15."""
    b = e.builder

    def constant(value: float) -> Value:
        return ir.Constant(F64, value)

    bits = b.bitcast(number, I64)
    mantissa = b.or_(b.and_(bits, I64((1 << 52) - 1)), I64(1023 << 52))
    m, exponent = b.bitcast(mantissa, F64), b.sub(b.lshr(bits, I64(52)), I64(1023))
    large = b.fcmp_ordered(">", m, constant(math.sqrt(2)))
    m = b.select(large, b.fmul(m, constant(0.5)), m)
    exponent = b.add(exponent, b.zext(large, I64))
    z = b.fdiv(b.fsub(m, constant(1.0)), b.fadd(m, constant(1.0)))
    square = b.fmul(z, z)
    series = constant(1 / (2 * _TERMS - 1))
    for term in range(_TERMS - 2, -1, -1):
        series = b.fadd(b.fmul(series, square), constant(1 / (2 * term + 1)))
    small = b.fmul(b.fmul(z, constant(2.0)), series)
    result = b.fadd(b.fmul(b.sitofp(exponent, F64), constant(math.log(2))), small)
    return b.select(b.fcmp_unordered("uno", number, number), number, result)


@record
class MeanKernel:
    """The mean of float64 numbers, one after another, as one float32."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b, losses = e.builder, e.pointer(MeanArgument.LOSSES, F64)
        count = e.argument(MeanArgument.COUNT)

        def add(index: Value, total: Value) -> list[Value]:
            return [b.fadd(total, b.load(e.offset(losses, index), align=8))]

        (total,) = e.loop(0, count, add, carried=[ir.Constant(F64, 0.0)])
        mean = b.fptrunc(b.fdiv(total, b.sitofp(count, F64)), F32)
        b.store(mean, e.pointer(MeanArgument.Y), align=4)
        return e.text()


def _arguments(
    scores: Plane, target: Plane, y: dict[IntEnum, task.Argument]
) -> tuple[dict[IntEnum, task.Argument], int]:
    # exp takes the time of some moves more.
    cut, chunks = row_arguments(Argument, scores, 8 * scores.shape[3])
    return {**plane_arguments(Argument, X=scores, TARGET=target), **cut, **y}, chunks


def cross_entropy_tasks(
    scores: Plane, target: Plane, y: Plane, *, label_smoothing: float
) -> tuple[list[Task], list[Plane]]:
    """Write the mean loss to y, a plane of one number."""
    n, _, _, classes = scores.shape
    losses = Plane(f"{y.value} losses", (1, 1, 1, DOUBLE * n))
    arguments, chunks = _arguments(scores, target, {Argument.Y: losses.at()})
    mean: dict[IntEnum, task.Argument] = {
        MeanArgument.Y: y.at(),
        MeanArgument.LOSSES: losses.at(),
        MeanArgument.COUNT: n,
    }
    kernel = CrossEntropyKernel(classes, label_smoothing, "loss")
    return [Task(kernel, arguments, chunks), Task(MeanKernel(), mean, 1, waits=True)], [losses]


def cross_entropy_backward_tasks(
    scores: Plane, target: Plane, y: Plane, *, label_smoothing: float
) -> list[Task]:
    """Write the gradient of the mean loss by the scores to y."""
    arguments, chunks = _arguments(scores, target, plane_arguments(Argument, Y=y))
    kernel = CrossEntropyKernel(scores.shape[3], label_smoothing, "gradient")
    return [Task(kernel, arguments, chunks)]
