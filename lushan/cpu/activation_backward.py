"""Gradients of activations, number by number; the meaning is ``lushan.reference.activation``.

ReLU's relatives look at the sign of x, or of y where that has the same sign; sigmoid and tanh take
y. The output may be either input.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import by_sign
from lushan.cpu.channel_sums import channel_sum_tasks
from lushan.cpu.elementwise import elementwise_task, emit_channelwise_pairs, emit_elementwise
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record

Activation: TypeAlias = Literal["relu", "leaky_relu", "sigmoid", "tanh"]


@record
class ActivationBackwardKernel:
    """The gradient of one activation over a whole plane."""

    activation: Activation
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return emit_elementwise(name, target, 2, self._gradient)

    def _gradient(self, e: KernelEmitter, gradient: Value, known: Value) -> Value:
        b = e.builder
        if self.activation == "sigmoid":
            return b.fmul(b.fmul(gradient, known), b.fsub(e.splat(1.0), known))
        if self.activation == "tanh":
            return b.fmul(gradient, b.fsub(e.splat(1.0), b.fmul(known, known)))
        return by_sign(e, gradient, known, e.splat(self.slope))


@record
class PreluBackwardKernel:
    """The gradient of PReLU by its input."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return emit_channelwise_pairs(name, target, self.channels, by_sign)


def activation_backward_tasks(
    activation: Activation, grad_y: Plane, known: Plane, grad_x: Plane, *, slope: float = 0.0
) -> list[Task]:
    """Write the gradient of an activation to grad_x; ``known`` is what its reference takes."""
    return [elementwise_task(ActivationBackwardKernel(activation, slope), (grad_y, known), grad_x)]


def prelu_backward_tasks(
    grad_y: Plane, x: Plane, slope: NDArray[np.float32], grad_x: Plane, grad_slope: Plane
) -> tuple[list[Task], list[Plane]]:
    """Write the gradients of x and of the slope [C]."""
    kernel = PreluBackwardKernel(x.shape[3])
    tasks, temporaries = channel_sum_tasks("negative", x, grad_slope, grad_y)
    return [*tasks, elementwise_task(kernel, (grad_y, x), grad_x, (slope,))], temporaries
