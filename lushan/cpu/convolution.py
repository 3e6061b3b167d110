"""Direct convolution: MR pixels × NV vectors of channels in registers, one long sum each.

The meaning is ``lushan.reference.convolution``; the loops are ``convolution_loops``. Weights are
packed in panels of NR = NV·lanes output channels, [OC/NR, KH, KW, IC, NR], so that the inner loop
reads them in a line. One input number at a time is broadcast and multiplied with NV vectors of
weights, for each of MR pixels. Bias starts the sum; the residual and the activation are applied
before the only store.

A fully connected layer is the same with one pixel per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import Activation, activate, by_sign
from lushan.cpu.convolution_loops import ConvolutionLoops, Output
from lushan.cpu.emit import F32, Value
from lushan.cpu.sliding import Argument, Geometry, SlidingKernel, sliding, sliding_arguments
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import L2_BYTES
from lushan.record import record


@record
class ConvolutionKernel(SlidingKernel):
    """One step of a sum is one input channel.

    ``gate`` says that the outputs are gradients, which the sign of another plane lets through; the
    slope is that of the activation whose gradient it is then.
    """

    activation: Activation = "none"
    slope: float = 0.0
    gate: bool = False

    @property
    def beside(self) -> tuple[str, ...]:
        """The residual's name, and the gate's."""
        return (*super().beside, *["GATE"] * self.gate)

    @property
    def spreads(self) -> bool:
        """Whether they are those of a training step, larger than any cache."""
        return self.gate

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, name, target).emit()


@record
class Epilogue:
    """What follows the sum before the store."""

    residual: Plane | None = None
    activation: Activation = "none"
    slope: float = 0.0
    gate: Plane | None = None


def convolution_task(
    x: Plane,
    y: Plane,
    geometry: Geometry,
    packed: tuple[NDArray[np.float32], NDArray[np.float32]],
    window: tuple[int, int],
    *,
    epilogue: Epilogue,
    group: tuple[int, int],
    target: Target,
) -> Task:
    """Return the task that computes one group of a convolution.

    ``packed`` is what ``Packer.panels`` returned for the group, ``window`` is (KH, KW), and
    ``group`` is (which, of how many). The halo of ``x`` must be at least the padding.
    """
    vectors = packed[0].shape[-1] // target.lanes
    kernel = ConvolutionKernel(
        **sliding(x, y, geometry, window, group[1], vectors, target),
        residual=epilogue.residual is not None,
        prefetch=packed[0].nbytes > L2_BYTES,
        activation=epilogue.activation,
        slope=epilogue.slope,
        gate=epilogue.gate is not None,
    )
    arguments, chunks = sliding_arguments(
        kernel,
        x,
        y,
        epilogue.residual,
        geometry,
        *packed,
        group=group,
        target=target,
    )
    if epilogue.gate is not None:
        first = epilogue.gate.origin + group[0] * y.shape[3] // group[1]
        arguments[Argument.GATE] = epilogue.gate.at(first)
        arguments[Argument.GATE_ROW] = epilogue.gate.row
        arguments[Argument.GATE_IMAGE] = epilogue.gate.image
    return Task(kernel, arguments, chunks)


class _Emitter(ConvolutionLoops):
    kernel: ConvolutionKernel

    def __init__(self, kernel: ConvolutionKernel, name: str, target: Target) -> None:
        super().__init__(kernel, name, target, (F32, F32))
        self.bias = self.e.absolute(Argument.CONSTANTS)

    def start(self, block: Value) -> list[Value]:
        """Start with the bias."""
        e = self.e
        bias = e.offset(self.bias, e.mul(block, self.nr))
        tile = self.kernel.tile
        return [e.load(bias, v * self.target.lanes) for v in range(tile.vectors)] * tile.pixels

    def step(self, x: Value, weights: Value, sums: list[Value], pixels: range) -> None:
        """Multiply one number of each pixel with the weights of one input channel."""
        e, vectors = self.e, self.kernel.tile.vectors
        loaded = [e.load(weights, v * self.target.lanes) for v in range(vectors)]
        for m in pixels:
            number = e.broadcast(x, m * self.kernel.pixel)
            for v in range(vectors):
                place = m * vectors + v
                sums[place] = e.fma(number, loaded[v], sums[place])

    def outputs(
        self, sums: list[Value], y: Value, beside: Sequence[Value], block: Value, channels: int
    ) -> list[Output]:
        """Add the residual, apply the activation or the gate, store."""
        e, planes = self.e, dict(zip(self.kernel.beside, beside, strict=True))
        residual, gate, slope = planes.get("RESIDUAL"), planes.get("GATE"), self.kernel.slope

        def output(number: int, place: int, used: int) -> None:
            total = sums[number]
            if residual is not None:
                total = e.builder.fadd(total, e.load(residual, place, lanes=used))
            if gate is not None:
                known = e.load(gate, place, lanes=used)
                result = by_sign(e, total, known, e.splat(slope))
            else:
                result = activate(e, self.kernel.activation, total, slope)
            e.store(result, y, place, lanes=used)

        return [
            partial(output, number, place, used)
            for number, _, place, used in self.each_vector(channels)
        ]
