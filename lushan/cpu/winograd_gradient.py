"""Winograd's gradient by the weight: a quarter of the multiplications, for 3×3 at stride 1.

The meaning is ``lushan.reference.convolution.convolution_backward_weight``; the numbers are in
``winograd_transform``. For each tile of 4×4 (or 2×2) outputs:

1. x under it becomes P = 36 (16) numbers per input channel, as on the way forward; so does grad_y,
   per output channel;
2. for each of the P points and each pair of channels, the products of the two are summed over all
   tiles of all pictures: P matrix products [OC, tiles] · [tiles, IC];
3. P sums become 3×3 taps.

With few channels the P·OC·IC sums stay in L2. Tiles are cut into slices, a chunk each, which go
through 1 and 2 strip by strip in scratch memory and have sums of their own, added up in order.
With many channels there is one set of sums. Tiles are cut into segments, whose transformed planes
stay in L3 on their way from a task that makes them to one that sums: a chunk there is a point and
some output channels. Slices, strips and segments depend on shapes alone, and so does every sum.
"""

from __future__ import annotations

from enum import IntEnum

from lushan.cpu import task
from lushan.cpu.emit import SCRATCH
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import Tile, rows_per_chunk
from lushan.cpu.winograd_gradient_kernels import (
    Argument,
    GradientPointsKernel,
    InputPointsKernel,
    JoiningArgument,
    PointSumsKernel,
    SliceSumsKernel,
    TapsKernel,
)
from lushan.cpu.winograd_tiles import tile_arguments
from lushan.cpu.winograd_tiling import (
    FEWEST_SUM_CHUNKS,
    WINOGRAD_SKEW,
    WinogradGradientCut,
    choose_winograd_gradient_cut,
    choose_winograd_gradient_tile,
    winograd_products,
    winograd_tiles,
)


def winograd_gradient_tasks(
    grad_y: Plane, x: Plane, y: Plane, outputs: int, target: Target
) -> tuple[list[Task], list[Plane]]:
    """Write the gradient of a weight [OC, 3, 3, IC] to the dense plane y of that shape.

    The convolution has stride, dilation and groups of 1 and a padding of 1, which x has as a halo
    at least; tiles have so many ``outputs`` squared. Both numbers of channels must fill vectors.
    Returns the tasks and their temporary planes.
    """
    oc, ic = grad_y.shape[3], x.shape[3]
    products = winograd_products(outputs)
    tiles = grad_y.shape[0] * winograd_tiles(grad_y.shape[1], grad_y.shape[2], outputs)
    cut = choose_winograd_gradient_cut(tiles, outputs, ic, oc)
    point = oc * ic + WINOGRAD_SKEW
    sums = Plane(f"{y.value} sums", (1, 1, cut.slices, products * point))
    sizes = [cut.strip * channels + WINOGRAD_SKEW for channels in (ic, oc)]
    common: dict[IntEnum, task.Argument] = {
        Argument.X: x.at(x.origin - x.row - ic),
        Argument.GRADIENT: grad_y.at(),
        Argument.SUMS: sums.at(),
        Argument.X_ROW: x.row,
        Argument.X_IMAGE: x.image,
        Argument.GRADIENT_ROW: grad_y.row,
        Argument.GRADIENT_IMAGE: grad_y.image,
        **tile_arguments(Argument, grad_y.shape[1], grad_y.shape[2], outputs),
        Argument.FIRST: 0,
        Argument.TILES: tiles,
        Argument.TILES_PER_STRIP: cut.strip,
        Argument.X_POINT: sizes[0],
        Argument.GRADIENT_POINT: sizes[1],
        Argument.SUMS_POINT: point,
        Argument.SLICE: products * point,
    }
    each = rows_per_chunk(oc, FLOAT * products * cut.slices * ic)
    joining: dict[IntEnum, task.Argument] = {
        JoiningArgument.Y: y.at(),
        JoiningArgument.SUMS: sums.at(),
        JoiningArgument.SUMS_POINT: point,
        JoiningArgument.SLICE: products * point,
        JoiningArgument.SLICES: cut.slices,
        JoiningArgument.CHANNELS: oc,
        JoiningArgument.CHANNELS_PER_CHUNK: each,
    }
    join = Task(TapsKernel(outputs, ic), joining, -(-oc // each), waits=True)
    tile = choose_winograd_gradient_tile(oc, ic, target)
    if cut.shared:
        planes = [
            Plane(f"{y.value} {name} points", (1, 1, 1, products * size))
            for name, size in zip(("input", "gradient"), sizes, strict=True)
        ]
        tasks = _segments(common, planes, outputs, (ic, oc), tile, cut)
        return [*tasks, join], [sums, *planes]
    arguments = {
        **common,
        Argument.X_POINTS: SCRATCH,
        Argument.GRADIENT_POINTS: SCRATCH,
        Argument.GRADIENT_POINTS_OFFSET: FLOAT * products * sizes[0],
        Argument.TILES_PER_CHUNK: cut.tiles_per_slice,
    }
    kernel = SliceSumsKernel(outputs, (ic, oc), tile)
    scratch = FLOAT * products * sum(sizes)
    return [Task(kernel, arguments, cut.slices, scratch=scratch), join], [sums]


def _segments(
    common: dict[IntEnum, task.Argument],
    planes: list[Plane],
    outputs: int,
    channels: tuple[int, int],
    tile: Tile,
    cut: WinogradGradientCut,
) -> list[Task]:
    """Return for each segment the two tasks that transform it and the one that sums."""
    products, (ic, oc) = winograd_products(outputs), channels
    parts = -(-FEWEST_SUM_CHUNKS // products)
    each = -(-oc // (parts * tile.pixels)) * tile.pixels
    tasks = []
    for number in range(cut.segments):
        first = number * cut.strip
        last = min(cut.tiles, first + cut.strip)
        chunk = rows_per_chunk(last - first, FLOAT * products * min(channels))
        arguments: dict[IntEnum, task.Argument] = {
            **common,
            Argument.X_POINTS: planes[0].at(),
            Argument.GRADIENT_POINTS: planes[1].at(),
            Argument.FIRST: first,
            Argument.TILES: last,
            Argument.TILES_PER_CHUNK: chunk,
            Argument.CHANNEL_PARTS: -(-oc // each),
            Argument.CHANNELS_PER_PART: each,
            Argument.ADDS: int(number > 0),
        }
        chunks = -(-(last - first) // chunk)
        tasks += [
            Task(InputPointsKernel(outputs, ic), arguments, chunks, waits=number > 0),
            Task(GradientPointsKernel(outputs, oc), arguments, chunks),
            Task(PointSumsKernel(channels, tile), arguments, products * -(-oc // each), waits=True),
        ]
    return tasks
