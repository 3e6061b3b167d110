"""Direct convolution of bytes: exact integer sums, then one step of float32 back to bytes.

The meaning is ``lushan.reference.quantized_convolution``; the loops are ``convolution_loops``.
A step of a sum takes four bytes that follow each other in the input; weights are packed in panels,
int8 [OC/NR, KH, KW, IC/4, NR, 4], filled up with zeros, so that what bytes the last step of a run
meets beyond its end does not matter (up to three: ``SLACK``). Columns of the window that lie next
to each other are one run, so the three channels of a picture cost little.

A fully connected layer is the same with one pixel per picture, and float32 scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import STEP, ByteArithmetic
from lushan.cpu.convolution_loops import ConvolutionLoops, Output
from lushan.cpu.emit import F32, I8, Value
from lushan.cpu.sliding import (
    Argument,
    Geometry,
    SlidingKernel,
    padded_edges,
    sliding,
    sliding_arguments,
)
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import L2_BYTES, fits_twice
from lushan.record import record, replace
from lushan.reference.requantization import Requantization

SLACK = STEP - 1  # bytes that may be read beyond a plane


@record
class QuantizedConvolutionKernel(SlidingKernel):
    """One step of a sum is four bytes; y is bytes from ``low`` on, or float32 where it is None.

    ``relu`` is for float32. The constants of a panel are the multipliers and the offsets of its NR
    channels, then NR times that of the residual.
    """

    low: int | None = 0
    relu: bool = False

    @property
    def step(self) -> int:
        """The terms that one step of a sum takes."""
        return STEP

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, name, target).emit()


def panels_shape(
    weight: tuple[int, ...], geometry: Geometry, groups: int, nr: int
) -> tuple[int, ...]:
    """Return the shape of the panels of a group's weight [OC, KH, KW, IC]."""
    oc, kh, kw, ic = weight
    run = kw if groups == 1 and geometry.dilation[1] == 1 else 1
    return (-(-oc // nr), kh, kw // run, -(-ic * run // STEP), nr, STEP)


def write_panels(weight: NDArray[np.int8], panels: NDArray[np.int8]) -> None:
    """Write a group's weight [OC, KH, KW, IC] into its panels."""
    blocks, kh, columns, steps, nr, _ = panels.shape
    oc = len(weight)
    runs = weight.reshape(oc, kh, columns, -1)  # [OC, KH, KW/run, terms]
    terms = runs.shape[-1]
    padded = np.zeros((nr, kh, columns, steps * STEP), np.int8)
    for block in range(blocks):
        part = runs[block * nr : (block + 1) * nr]
        padded[len(part) :] = 0
        padded[: len(part), ..., :terms] = part
        panels[block] = padded.reshape(nr, kh, columns, steps, STEP).transpose(1, 2, 3, 0, 4)


def panel_constants(finish: Requantization, channels: slice, nr: int) -> NDArray[np.float32]:
    """Return what becomes of the sums of some channels, float32 [OC/NR, 3, NR]."""
    multiplier, offset = finish.multiplier[channels], finish.offset[channels]
    constants = np.zeros((-(-len(offset) // nr), 3, nr), np.float32)
    for block, (scales, offsets, shortcut) in enumerate(constants):
        part = slice(block * nr, (block + 1) * nr)
        scales[: len(multiplier[part])] = multiplier[part]
        offsets[: len(offset[part])] = offset[part]
        shortcut[:] = finish.shortcut_multiplier
    return constants


def quantized_convolution_task(
    x: Plane,
    y: Plane,
    geometry: Geometry,
    weights: NDArray[np.int8],
    constants: NDArray[np.float32],
    window: tuple[int, int],
    *,
    residual: Plane | None,
    low: int | None,
    relu: bool,
    zero: NDArray[np.uint8],
    group: tuple[int, int],
    target: Target,
) -> Task:
    """Return the task that computes one group of a convolution of bytes.

    ``weights`` are its panels, ``constants`` as ``panel_constants`` makes them; ``low`` and
    ``relu`` as in ``Requantization``; ``zero`` is what padding holds, () or [C]. The halo of ``x``
    must be at least the padding.
    """
    adds_nothing = not zero.any()
    is_padded = window[0] > 1 and any(geometry.padding[:2])
    nr = weights.shape[-2]
    kernel = QuantizedConvolutionKernel(
        **sliding(x, y, geometry, window, group[1], nr // target.lanes, target),
        residual=residual is not None,
        prefetch=weights.nbytes > L2_BYTES,
        low=low,
        relu=relu,
        # At 7 rows a tenth of the products of a 3×3 window are with padding above and below.
        skips=is_padded and geometry.dilation[0] == 1 and adds_nothing,
    )
    if adds_nothing:
        columns = window[1] // kernel.window[1]  # of a run
        edges = padded_edges(kernel, x, y, geometry, columns, target)
        kernel = replace(kernel, edges=edges)
    arguments, chunks = sliding_arguments(
        kernel,
        x,
        y,
        residual,
        geometry,
        weights,
        constants,
        group=group,
        target=target,
    )
    # A place for the outputs of a tile: before the first one, nothing is made into nothing.
    tile = (kernel.tile.pixels - 1) * kernel.output_pixel + nr
    return Task(kernel, arguments, chunks, scratch=tile)


class _Emitter(ConvolutionLoops):
    kernel: QuantizedConvolutionKernel

    def __init__(self, kernel: QuantizedConvolutionKernel, name: str, target: Target) -> None:
        super().__init__(kernel, name, target, (I8, F32 if kernel.low is None else I8))
        self.bytes = ByteArithmetic(self.e)
        self.constants = self.e.absolute(Argument.CONSTANTS)

    def start(self, block: Value) -> list[Value]:
        """Start with nothing: the offset is added when the sum is a float32."""
        return [self.bytes.zero()] * (self.kernel.tile.pixels * self.kernel.tile.vectors)

    def step(self, x: Value, weights: Value, sums: list[Value], pixels: range) -> None:
        """Multiply four bytes of each pixel with the weights of four input channels."""
        vectors = self.kernel.tile.vectors
        loaded = [self.bytes.weights(weights, v * self.target.lanes * STEP) for v in range(vectors)]
        for m in pixels:
            numbers = self.bytes.numbers(x, m * self.kernel.pixel)
            for v in range(vectors):
                place = m * vectors + v
                sums[place] = self.bytes.add_products(sums[place], numbers, loaded[v])

    @property
    def overlaps(self) -> bool:
        """Making bytes takes as long as 8 to 16 terms: it overlaps where registers allow."""
        kernel = self.kernel
        is_whole = kernel.output_channels % self.nr == 0
        return kernel.low is not None and is_whole and fits_twice(kernel.tile, self.target)

    def outputs(
        self, sums: list[Value], y: Value, beside: Sequence[Value], block: Value, channels: int
    ) -> list[Output]:
        """Multiply, add the offset and the residual, clamp and round, in steps of float32."""
        e, b, lanes, kernel = self.e, self.e.builder, self.target.lanes, self.kernel
        panel = e.offset(self.constants, e.mul(block, 3 * self.nr))

        def output(number: int, vector: int, place: int, used: int) -> None:
            multiplier = e.load(panel, vector * lanes)
            v = b.fmul(self.bytes.sums_as_floats(sums[number]), multiplier)
            v = b.fadd(v, e.load(panel, self.nr + vector * lanes))
            for residual in beside:
                other = self.bytes.bytes_as_floats(e.load(residual, place, lanes=used))
                v = b.fadd(v, b.fmul(other, e.load(panel, 2 * self.nr)))
            if kernel.low is not None:
                e.store(self.bytes.as_bytes(v, kernel.low), y, place, lanes=used)
                return
            if kernel.relu:
                zero = e.splat(0.0)
                v = b.select(b.fcmp_ordered(">", v, zero), v, zero)
            e.store(v, y, place, lanes=used)

        return [partial(output, *each) for each in self.each_vector(channels)]
