"""Activations: what they do to a vector, and as kernels over whole planes.

The meaning is ``lushan.reference.activation``. ``activate`` emits one on a vector in registers, so
that the end of another kernel can apply it before its only store. An output may be its input.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu.elementwise import (
    Argument,
    elementwise_task,
    emit_channelwise,
    emit_elementwise,
)
from lushan.cpu.emit import I32, KernelEmitter, Value
from lushan.cpu.exponential import exponential
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record

__all__ = ["Activation", "ActivationKernel", "Argument", "PreluKernel", "activate", "by_sign"]

Activation: TypeAlias = Literal["none", "relu", "leaky_relu", "sigmoid", "tanh"]

# tanh(x) = x + x·x²·p(x²) up to here; beyond, 1 is near enough for the difference to be exact.
_TANH_IS_POLYNOMIAL = 0.6
_TANH = (  # p, from the highest power down; relative error 3e-9 before rounding
    -0.005895158275961876,
    0.020795971155166626,
    -0.053783830255270004,
    0.13331924378871918,
    -0.33333298563957214,
)


def activate(e: KernelEmitter, activation: Activation, x: Value, slope: float = 0.0) -> Value:
    """Return the activation of a vector; ``slope`` is that of leaky ReLU."""
    if activation == "relu":
        return e.maximum(e.splat(0.0), x)
    if activation == "leaky_relu":
        return leaky_relu(e, x, e.splat(slope))
    if activation == "sigmoid":
        return sigmoid(e, x)
    if activation == "tanh":
        return tanh(e, x)
    return x


def by_sign(e: KernelEmitter, gradient: Value, known: Value, slope: Value) -> Value:
    """Return the gradient where ``known`` is positive, ``slope`` times it elsewhere."""
    b = e.builder
    positive = b.fcmp_ordered(">", known, e.splat(0.0))
    return b.select(positive, gradient, b.fmul(slope, gradient))


def leaky_relu(e: KernelEmitter, x: Value, slope: Value) -> Value:
    """Return x where it is positive and slope · x elsewhere."""
    b = e.builder
    return b.select(b.fcmp_ordered(">", x, e.splat(0.0)), x, b.fmul(slope, x))


def sigmoid(e: KernelEmitter, x: Value) -> Value:
    """Return 1 / (1 + exp(−x)), taking exp of numbers below 0 only, as the reference does."""
    b = e.builder
    one = e.splat(1.0)
    power = exponential(e, _with_bits(e, x, "or", 1 << 31))
    above = b.select(b.fcmp_ordered(">=", x, e.splat(0.0)), one, power)
    return b.fdiv(above, b.fadd(one, power))


def tanh(e: KernelEmitter, x: Value) -> Value:
    """Return the hyperbolic tangent: a polynomial near 0, 1 − 2 / (exp(2·|x|) + 1) elsewhere."""
    b = e.builder
    size = _with_bits(e, x, "and", (1 << 31) - 1)
    one = e.splat(1.0)
    power = exponential(e, b.fadd(size, size))
    far = b.fsub(one, b.fdiv(e.splat(2.0), b.fadd(power, one)))
    square = b.fmul(size, size)
    p = e.splat(_TANH[0])
    for coefficient in _TANH[1:]:
        p = e.fma(p, square, e.splat(coefficient))
    near = e.fma(b.fmul(size, square), p, size)
    result = b.select(b.fcmp_ordered("<", size, e.splat(_TANH_IS_POLYNOMIAL)), near, far)
    return _with_sign_of(e, result, x)


def _with_bits(e: KernelEmitter, x: Value, operation: str, mask: int) -> Value:
    """Return x with a mask laid over the bits of each number."""
    b = e.builder
    integers = ir.VectorType(I32, e.target.lanes)
    masks = ir.Constant(integers, [I32(mask)] * e.target.lanes)
    bits = b.bitcast(x, integers)
    return b.bitcast(b.or_(bits, masks) if operation == "or" else b.and_(bits, masks), e.vector)


def _with_sign_of(e: KernelEmitter, size: Value, x: Value) -> Value:
    """Return ``size``, which is not negative, with the sign of x."""
    b = e.builder
    integers = ir.VectorType(I32, e.target.lanes)
    sign = b.bitcast(_with_bits(e, x, "and", 1 << 31), integers)
    return b.bitcast(b.or_(b.bitcast(size, integers), sign), e.vector)


@record
class ActivationKernel:
    """One activation over a whole plane."""

    activation: Activation
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return emit_elementwise(
            name, target, 1, lambda e, x: activate(e, self.activation, x, self.slope)
        )


@record
class PreluKernel:
    """Leaky ReLU with a slope for each channel."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return emit_channelwise(name, target, self.channels, 1, leaky_relu)


def activation_tasks(
    activation: Activation, x: Plane, y: Plane, target: Target, *, slope: float = 0.0
) -> list[Task]:
    """Write an activation of x to y of the same shape."""
    return [elementwise_task(ActivationKernel(activation, slope), (x,), y)]


def prelu_tasks(x: Plane, y: Plane, slope: NDArray[np.float32], target: Target) -> list[Task]:
    """Write x to y, its negative numbers times the slope [C] of their channel."""
    return [elementwise_task(PreluKernel(x.shape[3]), (x,), y, (np.ascontiguousarray(slope),))]
