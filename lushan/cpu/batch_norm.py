"""Batch normalisation with given statistics: a scale and a shift for each channel.

The meaning is ``lushan.reference.batch_norm.batch_norm``. Where a convolution comes before it, a
pass has folded it away; this is for where none does. Training's batch norm is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import Activation, activate
from lushan.cpu.elementwise import Argument, elementwise_task, emit_channelwise
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.record import record

__all__ = ["Argument", "BatchNormKernel", "batch_norm_tasks", "scale_and_shift"]


@record
class BatchNormKernel:
    """x · scale + shift, and an activation; the output may be the input."""

    channels: int
    activation: Activation = "none"
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""

        def normalised(e: KernelEmitter, x: Value, scale: Value, shift: Value) -> Value:
            return activate(e, self.activation, e.fma(x, scale, shift), self.slope)

        return emit_channelwise(name, target, self.channels, 2, normalised)


def scale_and_shift(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    epsilon: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and shift [C], computed in float64 and rounded once each.

    The shift belongs to the rounded scale, so that what is rounded there does not grow with the
    mean.
    """
    deviation = np.sqrt(variance.astype(np.float64) + epsilon)
    scale = (weight / deviation).astype(np.float32)
    shift = bias - mean.astype(np.float64) * scale
    return scale, shift.astype(np.float32)


def batch_norm_tasks(
    x: Plane,
    y: Plane,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    target: Target,
    *,
    epsilon: float,
    activation: Activation = "none",
    slope: float = 0.0,
) -> list[Task]:
    """Write x, normalised with statistics [C], and an activation of it, to y."""
    parameters = scale_and_shift(weight, bias, mean, variance, epsilon)
    kernel = BatchNormKernel(x.shape[3], activation, slope)
    return [elementwise_task(kernel, (x,), y, parameters)]
