"""Direct convolution: MR pixels × NV vectors of channels in registers, one long sum each.

The meaning is ``lushan.reference.convolution``; here the input has its padding in memory already,
so no border is checked. Weights are packed in panels of NR = NV·lanes output channels,
[OC/NR, KH, KW, IC, NR], so that the inner loop reads them in a line. One input number at a time is
broadcast and multiplied with NV vectors of weights, for each of MR pixels. Bias starts the sum;
the residual and the activation are applied before the only store.

A fully connected layer is the same with one pixel per picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import Activation
from lushan.cpu.convolution_loops import Argument, ConvolutionEmitter
from lushan.cpu.emit import KernelEmitter
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.task import Argument as TaskArgument
from lushan.cpu.tiling import (
    L2_BYTES,
    Tile,
    choose_chunks,
    choose_tile,
    unrolling,
)


@dataclass(frozen=True)
class ConvolutionKernel:
    """What the generated code depends on: everything but height, width and batch.

    ``window`` is (KH, KW); ``terms`` the input channels of one position of it; ``tap`` the
    elements from one column of the window to the next, ``pixel`` from one output pixel's window
    to the next, ``output_pixel`` from one output pixel to the next in output and residual.
    ``prefetch`` says whether the weights come from memory, so that the next panel should be on
    its way while this one is used.
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
    activation: Activation = "none"
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return ConvolutionEmitter(self, KernelEmitter(name, target)).emit()

    def panel(self, target: Target) -> int:
        """Return the elements of one packed panel of weights."""
        return math.prod(self.window) * self.terms * self.tile.vectors * target.lanes

    def turn(self, target: Target) -> int:
        """Return the steps of the sum that one turn of the inner loop makes."""
        return unrolling(self.terms, self.tile, target)

    def blocks(self, target: Target) -> int:
        """Return the number of panels."""
        return -(-self.output_channels // (self.tile.vectors * target.lanes))


@dataclass(frozen=True)
class Geometry:
    """How a convolution lies over its input: (height, width), padding on four sides."""

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Epilogue:
    """What follows the sum before the store."""

    residual: Plane | None = None
    activation: Activation = "none"
    slope: float = 0.0


def choose_convolution_tile(
    x: Plane, y: Plane, geometry: Geometry, vectors: int, target: Target
) -> Tile:
    """Return the tile of a convolution whose weights are packed for so many vectors."""
    return choose_tile(y.shape[2], vectors, FLOAT * geometry.stride[1] * x.shape[3], target)


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
    threads: int = 1,
) -> Task:
    """Return the task that computes one group of a convolution.

    ``packed`` is what ``Packer.panels`` returned for the group, ``window`` is (KH, KW), and
    ``group`` is (which, of how many). The halo of ``x`` must be at least the padding. ``threads``
    only guides what is prefetched.
    """
    groups = group[1]
    c = y.shape[3]
    ic, oc = x.shape[3] // groups, c // groups
    kh, kw = window
    vectors = packed[0].shape[-1] // target.lanes
    # Columns of the window that follow each other in memory are one run of terms.
    run = kw if groups == 1 and geometry.dilation[1] == 1 else 1
    kernel = ConvolutionKernel(
        window=(kh, kw // run),
        terms=ic * run,
        tap=geometry.dilation[1] * x.shape[3],
        pixel=geometry.stride[1] * x.shape[3],
        output_channels=oc,
        output_pixel=c,
        tile=choose_convolution_tile(x, y, geometry, vectors, target),
        residual=epilogue.residual is not None,
        prefetch=packed[0].nbytes > L2_BYTES,
        activation=epilogue.activation,
        slope=epilogue.slope,
    )
    arguments, chunks = convolution_arguments(
        x, y, epilogue.residual, geometry, kernel, group, target, threads
    )
    arguments |= {Argument.WEIGHTS: packed[0], Argument.BIAS: packed[1]}
    return Task(kernel, arguments, chunks)


def convolution_arguments(
    x: Plane,
    y: Plane,
    residual: Plane | None,
    geometry: Geometry,
    kernel: Any,
    group: tuple[int, int],
    target: Target,
    threads: int,
) -> tuple[dict[IntEnum, TaskArgument], int]:
    """Return the arguments of a task but its weights, and the number of its chunks.

    ``kernel`` is a ConvolutionKernel or one like it; the rest is as for ``convolution_task``.
    """
    index, groups = group
    n, h, w, c = y.shape
    ic, oc = x.shape[3] // groups, c // groups
    top, _, left, _ = geometry.padding
    blocks = kernel.blocks(target)
    row_bytes = x.element * geometry.stride[0] * x.row
    cut = choose_chunks(n * h, row_bytes, blocks, x.element * kernel.panel(target))
    row_chunks = -(-n * h // cut.rows)
    shortcut = residual or y
    arguments: dict[IntEnum, TaskArgument] = {
        Argument.X: x.at(x.origin - top * x.row - left * x.shape[3] + index * ic),
        Argument.Y: y.at(y.origin + index * oc),
        Argument.RESIDUAL: shortcut.at(shortcut.origin + index * oc),
        Argument.X_ROW: geometry.stride[0] * x.row,
        Argument.Y_ROW: y.row,
        Argument.RESIDUAL_ROW: shortcut.row,
        Argument.X_IMAGE: x.image,
        Argument.Y_IMAGE: y.image,
        Argument.RESIDUAL_IMAGE: shortcut.image,
        Argument.X_KERNEL_ROW: geometry.dilation[0] * x.row,
        Argument.ROWS_PER_IMAGE: h,
        Argument.ROWS: n * h,
        Argument.WIDTH: w,
        Argument.ROWS_PER_CHUNK: cut.rows,
        Argument.ROW_CHUNKS: row_chunks,
        Argument.BLOCKS_PER_CHUNK: cut.blocks,
        Argument.BLOCKS: blocks,
        Argument.THREADS: threads,
    }
    return arguments, row_chunks * -(-blocks // cut.blocks)
