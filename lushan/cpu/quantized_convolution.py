"""Convolution of bytes: MR pixels × NV vectors of channels in registers, 32-bit integer sums.

The meaning is ``lushan.reference.quantized_convolution``, which this equals bit for bit. The loops
are those of ``convolution``; a step of the sum takes four bytes of the input: a quad of channels,
or of neighbouring columns and channels, which lie side by side. Weights are packed in panels
[OC/NR, KH, KW, Q, NR, 4]. Where a run of channels is no multiple of four, the last quad meets
weights of 0, whatever bytes of it lie behind the run.

A fully connected layer is the same with one pixel per picture and float32 numbers at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import convolution_loops as loops
from lushan.cpu.byte_emit import QUAD, ByteEmitter, weight_bytes
from lushan.cpu.convolution import Geometry, convolution_arguments
from lushan.cpu.emit import F32, I8, Value
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import L2_BYTES, Tile, choose_byte_tile, unrolling


class Argument(IntEnum):
    """The arguments after those of ``convolution_loops.Argument``."""

    MULTIPLIER = max(loops.Argument) + 1  # [OC/NR, NR], as the offset
    OFFSET = MULTIPLIER + 1
    NUMBERS = OFFSET + 1  # the multiplier of the shortcut, and the least byte of y


@dataclass(frozen=True)
class Packed:
    """The weights of one group and its constants, as ``reference.requantization`` gives them.

    ``weights`` are bytes [OC/NR, KH, KW, Q, NR, 4] (or pairs of int16), ``multiplier`` and
    ``offset`` are [OC/NR, NR], ``numbers`` the multiplier of the shortcut and the least byte.
    """

    weights: NDArray[np.int8]
    multiplier: NDArray[np.float32]
    offset: NDArray[np.float32]
    numbers: NDArray[np.float32]


@dataclass(frozen=True)
class QuantizedConvolutionKernel:
    """What the generated code depends on; see ``ConvolutionKernel``.

    ``terms`` counts quads. ``gives_bytes`` says what y is; ``relu`` matters where it is float32.
    """

    window: tuple[int, int]
    terms: int
    tap: int
    pixel: int
    output_channels: int
    output_pixel: int
    tile: Tile
    residual: bool
    prefetch: bool
    gives_bytes: bool
    relu: bool

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, ByteEmitter(name, target)).emit()

    def panel(self, target: Target) -> int:
        """Return the bytes of one packed panel of weights."""
        channels = self.tile.vectors * target.lanes
        return math.prod(self.window) * self.terms * channels * QUAD * weight_bytes(target)

    def turn(self, target: Target) -> int:
        """Return the steps of the sum that one turn of the inner loop makes."""
        return unrolling(self.terms, self.tile, target)

    def blocks(self, target: Target) -> int:
        """Return the number of panels."""
        return -(-self.output_channels // (self.tile.vectors * target.lanes))


def run_of(window: tuple[int, int], geometry: Geometry, groups: int) -> int:
    """Return how many columns of a window follow each other in memory, as one run of bytes."""
    return window[1] if groups == 1 and geometry.dilation[1] == 1 else 1


def quantized_convolution_task(
    x: Plane,
    y: Plane,
    geometry: Geometry,
    packed: Packed,
    window: tuple[int, int],
    *,
    residual: Plane | None,
    relu: bool,
    group: tuple[int, int],
    vectors: int,
    target: Target,
    threads: int = 1,
) -> Task:
    """Return the task that computes one group of a convolution of bytes; see ``convolution_task``.

    ``vectors`` is what the weights are packed for.
    """
    groups = group[1]
    c = y.shape[3]
    kh, kw = window
    run = run_of(window, geometry, groups)
    pixel = geometry.stride[1] * x.shape[3]
    kernel = QuantizedConvolutionKernel(
        window=(kh, kw // run),
        terms=-(-run * x.shape[3] // groups // QUAD),
        tap=geometry.dilation[1] * x.shape[3],
        pixel=pixel,
        output_channels=c // groups,
        output_pixel=c,
        tile=choose_byte_tile(y.shape[2], vectors, pixel, target),
        residual=residual is not None,
        prefetch=packed.weights.nbytes > L2_BYTES,
        gives_bytes=y.element == 1,
        relu=relu and y.element != 1,
    )
    arguments, chunks = convolution_arguments(
        x, y, residual, geometry, kernel, group, target, threads
    )
    arguments |= {
        loops.Argument.WEIGHTS: packed.weights,
        Argument.MULTIPLIER: packed.multiplier,
        Argument.OFFSET: packed.offset,
        Argument.NUMBERS: packed.numbers,
    }
    return Task(kernel, arguments, chunks)


class _Emitter(loops.ConvolutionEmitter):
    element = I8
    unit = QUAD
    line = 64

    def __init__(self, kernel: QuantizedConvolutionKernel, e: ByteEmitter) -> None:
        self.output = I8 if kernel.gives_bytes else F32
        super().__init__(kernel, e)
        self.bytes = e
        self.step = self.nr * QUAD * weight_bytes(self.target)

    def _starts(self, block: Value) -> list[Value]:
        return [self.bytes.zero_sums()] * self.kernel.tile.vectors

    def _step(self, x: Value, weights: Value, sums: list[Value]) -> None:
        e, vectors = self.bytes, self.kernel.tile.vectors
        width = self.step // vectors
        loaded = [e.load_weights(weights, v * width) for v in range(vectors)]
        for m in range(self.kernel.tile.pixels):
            quad = e.split_quad(e.broadcast_quad(x, m * self.kernel.pixel))
            for v in range(vectors):
                place = m * vectors + v
                sums[place] = e.add_products(sums[place], quad, loaded[v])

    def _store(
        self, sums: list[Value], y: Value, residual: Value | None, channels: int, block: Value
    ) -> None:
        """Requantise and store, step by step as ``reference.requantization`` does."""
        e, b, lanes = self.bytes, self.bytes.builder, self.target.lanes
        first = e.mul(block, self.nr)
        constants = [
            [e.load(e.absolute(which), e.add(first, v * lanes)) for v in range(self.nr // lanes)]
            for which in (Argument.MULTIPLIER, Argument.OFFSET)
        ]
        numbers = e.absolute(Argument.NUMBERS)
        scale, low = e.broadcast(numbers, 0), e.broadcast(numbers, 1)
        for place, total in enumerate(sums):
            m, v = divmod(place, self.kernel.tile.vectors)
            used = min(lanes, channels - v * lanes)
            if used <= 0:
                continue
            at = m * self.kernel.output_pixel + v * lanes
            result = b.fmul(e.integers_to_floats(total), constants[0][v])
            result = b.fadd(result, constants[1][v])
            if residual is not None:
                shortcut = e.bytes_to_floats(e.load_bytes(residual, at, used=used))
                result = b.fadd(result, b.fmul(shortcut, scale))
            if self.kernel.gives_bytes:
                e.store_bytes(e.floats_to_bytes(result, low), y, at, used=used)
            else:
                result = e.maximum(result, e.splat(0.0)) if self.kernel.relu else result
                e.store(result, y, at, lanes=used)
