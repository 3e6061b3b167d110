"""Winograd's convolution of 3×3 at stride 1: a quarter of the multiplications, in three stages.

The meaning is ``lushan.reference.convolution``; ``winograd_transform`` has the numbers, and
``winograd_packing`` the weights. A picture
is cut into tiles of 4×4 outputs (2×2 where there would be too few). For a strip of tiles:

1. each tile's 6×6 input becomes P = 36 numbers per input channel: transformed [P, tiles, IC];
2. for one panel of NR output channels, P small matrix products: products [P, tiles, NR];
3. each tile's P products become 4×4 outputs, with bias, residual and activation.

The tiles of all pictures of a batch are one list. A panel's products are used up before the next
panel, so 2 and 3 stay in L2. With few weights, a chunk is a strip and does all three stages in its
thread's scratch memory. With many, a chunk is a panel, and stage 1 is a task of its own.

A height or width that is not a multiple of a tile's ends with a tile that overlaps the one before;
it keeps off the pixels that are not its own, so every pixel has one tile, whatever the chunks.
Each product is one long sum over the input channels, whatever the tiling.
Left out: channels that do not fill vectors, other strides, and rows or columns below 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.activation import Activation
from lushan.cpu.emit import SCRATCH
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.task import Argument as TaskArgument
from lushan.cpu.tiling import L2_BYTES
from lushan.cpu.winograd_kernels import Argument, WinogradInputKernel, WinogradKernel
from lushan.cpu.winograd_tiles import tile_arguments
from lushan.cpu.winograd_tiling import (
    WINOGRAD_SKEW,
    choose_training_outputs,
    choose_winograd_outputs,
    choose_winograd_strips,
    winograd_products,
    winograd_tiles,
)

Weights: TypeAlias = "NDArray[np.float32] | Plane"


def is_plain(weight: tuple[int, ...], options: Mapping[str, Any]) -> bool:
    """Return whether a convolution by a weight of this shape is of the kind computed here.

    That is 3×3 with stride, dilation, groups and padding of 1.
    """
    return (
        weight[1:3] == (3, 3)
        and options["stride"] == options["dilation"] == (1, 1)
        and options["padding"] == (1, 1, 1, 1)
        and options["groups"] == 1
    )


def suitable_outputs(
    input_channels: int, output_channels: int, height: int, width: int, target: Target
) -> int:
    """Return the outputs in each direction of a tile, 0 for a layer that is not computed here.

    The layer is a 3×3 convolution with stride, dilation and groups of 1, whose outputs have this
    height and width.
    """
    if input_channels % target.lanes or output_channels % target.lanes:
        return 0
    return choose_winograd_outputs(height, width, input_channels, output_channels)


def suitable_training_outputs(
    input_channels: int, output_channels: int, plane: tuple[int, int, int], target: Target
) -> int:
    """Return likewise for a layer of a training step; ``plane`` is batch, height and width.

    What a batch teaches is a matter of the whole batch, so that its size may decide.
    """
    if input_channels % target.lanes or output_channels % target.lanes:
        return 0
    return choose_training_outputs(*plane, input_channels, output_channels)


def winograd_tasks(
    x: Plane,
    y: Plane,
    residual: Plane | None,
    weights: Weights,
    biases: NDArray[np.float32],
    outputs: int,
    target: Target,
    *,
    activation: Activation = "none",
    slope: float = 0.0,
) -> tuple[list[Task], list[Plane]]:
    """Return the tasks of one layer, and the temporary planes that they hand on between them.

    ``weights`` and ``biases`` are packed for tiles of ``outputs``; x has a halo of at least one
    pixel of zeros. Weights that this run makes are a plane (``winograd_parameter_packing``),
    written by what comes before these tasks in their step. y must not share memory with x or
    ``residual``.
    """
    ic, oc = x.shape[3], y.shape[3]
    tiles = y.shape[0] * winograd_tiles(y.shape[1], y.shape[2], outputs)
    products = winograd_products(outputs)
    strips = choose_winograd_strips(tiles, outputs, ic, oc, target)
    columns = -(-y.shape[2] // outputs)  # tiles of a chunk of stage 1 alone
    cut, blocks = -(-tiles // strips.tiles), oc // (strips.tile.vectors * target.lanes)
    computed = isinstance(weights, Plane)
    transformed_point = (tiles if strips.shared else strips.tiles) * ic + WINOGRAD_SKEW
    products_point = strips.tiles * (oc // blocks) + WINOGRAD_SKEW
    products_bytes = FLOAT * products * products_point
    first: dict[IntEnum, TaskArgument] = {
        **_layer(x, y, residual, weights, biases, outputs),
        Argument.TRANSFORMED: SCRATCH,
        Argument.TRANSFORMED_OFFSET: products_bytes,
        Argument.TRANSFORMED_POINT: transformed_point,
        Argument.TILES_PER_STRIP: columns,
    }
    second: dict[IntEnum, TaskArgument] = {
        **first,
        Argument.PRODUCTS: SCRATCH,
        Argument.PRODUCTS_OFFSET: 0,
        Argument.PRODUCTS_POINT: products_point,
        Argument.TILES_PER_STRIP: strips.tiles,
        Argument.STRIPS: cut,
        Argument.BLOCKS_PER_CHUNK: strips.blocks,
        Argument.BLOCKS: blocks,
    }
    kernel = WinogradKernel(
        outputs=outputs,
        input_channels=ic,
        output_channels=oc,
        tile=strips.tile,
        shared=strips.shared,
        residual=residual is not None,
        prefetch=FLOAT * products * ic * oc > L2_BYTES,
        activation=activation,
        slope=slope,
        computed=computed,
    )
    chunks = cut * -(-blocks // strips.blocks)
    if not strips.shared:
        scratch = products_bytes + FLOAT * products * transformed_point
        return [Task(kernel, second, chunks, waits=computed, scratch=scratch)], []
    plane = Plane(f"{y.value} transformed", (1, 1, 1, products * transformed_point))
    for arguments in (first, second):
        del arguments[Argument.TRANSFORMED_OFFSET]
        arguments[Argument.TRANSFORMED] = plane.at()
    tasks = [
        Task(WinogradInputKernel(outputs, ic), first, tiles // columns),
        Task(kernel, second, chunks, waits=True, scratch=products_bytes),
    ]
    return tasks, [plane]


def _layer(
    x: Plane,
    y: Plane,
    residual: Plane | None,
    weights: Weights,
    biases: NDArray[np.float32],
    outputs: int,
) -> dict[IntEnum, TaskArgument]:
    """Return where everything lies, the strides there, and how pictures are cut into tiles."""
    images, height, width, _ = y.shape
    places: dict[IntEnum, TaskArgument] = {
        Argument.X: x.at(x.origin - x.row - x.shape[3]),
        Argument.X_ROW: x.row,
        Argument.X_IMAGE: x.image,
        Argument.Y: y.at(),
        Argument.Y_ROW: y.row,
        Argument.Y_IMAGE: y.image,
        Argument.WEIGHTS: weights.at() if isinstance(weights, Plane) else weights,
        Argument.BIAS: biases,
        **tile_arguments(Argument, height, width, outputs),
        Argument.TILES: images * winograd_tiles(height, width, outputs),
    }
    if residual is not None:
        places[Argument.RESIDUAL] = residual.at()
        places[Argument.RESIDUAL_ROW] = residual.row
        places[Argument.RESIDUAL_IMAGE] = residual.image
    return places
