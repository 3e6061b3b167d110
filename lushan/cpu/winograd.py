"""Winograd's convolution of 3×3 at stride 1: a quarter of the multiplications, in three stages.

The meaning is ``lushan.reference.convolution``; ``winograd_transform`` has the numbers. A picture
is cut into tiles of 4×4 outputs. For a strip of tiles:

1. each tile's 6×6 input becomes 36 numbers per input channel: transformed [36, tiles, IC];
2. for one panel of NR output channels, 36 small matrix products: products [36, tiles, NR];
3. each tile's 36 products become 4×4 outputs, with bias, residual and activation.

A panel's products are used up before the next panel, so 2 and 3 stay in L2. Where a picture is
several strips, a chunk does all three stages in its thread's scratch memory. Where it is one strip
with many weights, threads share the picture by panels: stage 1 is a task of its own.

A height or width that is not a multiple of 4 ends with a tile that overlaps the one before; it
keeps off the pixels that are not its own, so every pixel has one tile, whatever the chunks.
Each product is one long sum over the input channels, whatever the tiling.
Left out: channels that do not fill vectors, other strides, and rows or columns below 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.convolution import Fusable
from lushan.cpu.emit import SCRATCH, KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.task import Argument as TaskArgument
from lushan.cpu.tiling import (
    WINOGRAD_SKEW,
    WINOGRAD_TILE,
    Tile,
    choose_winograd_strips,
    choose_winograd_vectors,
    unrolling,
    winograd_pays,
    winograd_tiles,
)
from lushan.cpu.winograd_transform import (
    POINTS,
    transform_input,
    transform_output,
    transform_weight,
)

PRODUCTS = POINTS * POINTS


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    X = 0  # and X + 1: base and offset of the window of the first output pixel
    TRANSFORMED = 2  # [36, tiles, IC], of the picture or in scratch memory
    TRANSFORMED_OFFSET = 3
    PRODUCTS = 4  # [36, tiles, NR], in scratch memory
    PRODUCTS_OFFSET = 5
    Y = 6  # and Y + 1
    RESIDUAL = 8  # and RESIDUAL + 1
    WEIGHTS = 10
    BIAS = auto()
    X_ROW = auto()
    Y_ROW = auto()
    RESIDUAL_ROW = auto()
    X_IMAGE = auto()
    Y_IMAGE = auto()
    RESIDUAL_IMAGE = auto()
    LAST_ROW = auto()  # where the last tile starts: height − 4
    LAST_COLUMN = auto()
    TILE_COLUMNS = auto()
    TILES = auto()  # of one picture
    TILES_PER_STRIP = auto()
    STRIPS_PER_IMAGE = auto()
    STRIPS = auto()  # of all pictures
    TRANSFORMED_POINT = auto()  # from one of the 36 numbers to the next
    TRANSFORMED_IMAGE = auto()
    PRODUCTS_POINT = auto()
    BLOCKS_PER_CHUNK = auto()
    BLOCKS = auto()  # panels of NR output channels


@dataclass(frozen=True)
class WinogradInputKernel:
    """Stage 1 as a task of its own."""

    input_channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel: chunk → one strip."""
        e = KernelEmitter(name, target)
        image, first, last = _strip(e, e.chunk, 1)
        transformed = e.pointer(Argument.TRANSFORMED)
        place = e.mul(image, e.argument(Argument.TRANSFORMED_IMAGE))
        _transform_strip(e, self.input_channels, image, (first, last), (transformed, place, 0))
        return e.text()


@dataclass(frozen=True)
class WinogradKernel:
    """What the generated code depends on: everything but height, width and batch.

    ``tile.pixels`` counts tiles here: rows of a small matrix product. ``shared`` says that stage
    1 was done before, for the whole picture.
    """

    input_channels: int
    output_channels: int
    tile: Tile
    shared: bool
    residual: bool
    activation: Fusable = "none"
    slope: float = 0.0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, name, target).emit()


def is_suitable(
    input_channels: int, output_channels: int, height: int, width: int, target: Target
) -> bool:
    """Return whether a layer with outputs of this height and width is computed here.

    The layer is a 3×3 convolution with stride, dilation and groups of 1.
    """
    fills_vectors = input_channels % target.lanes == 0 and output_channels % target.lanes == 0
    return fills_vectors and winograd_pays(height, width, input_channels, output_channels)


def pack_winograd_weights(
    weight: NDArray[np.float32], bias: NDArray[np.float32], target: Target
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Transform weight [OC, 3, 3, IC] in float64 and pack it into panels of NR output channels.

    Returns [OC/NR, 36, IC, NR], the order in which a chunk reads it, and bias [OC].
    """
    oc, _, _, ic = weight.shape
    nr = choose_winograd_vectors(oc, target) * target.lanes
    packed = np.empty((oc // nr, PRODUCTS, ic, nr), np.float32)
    for panel, part in zip(packed, weight.reshape(-1, nr, *weight.shape[1:]), strict=True):
        panel[:] = transform_weight(part).reshape(PRODUCTS, nr, ic).swapaxes(1, 2)
    return packed, np.ascontiguousarray(bias, np.float32)


def _strip(e: KernelEmitter, index: Value, least: int) -> tuple[Value, Value, Value]:
    """Return the picture of a strip, its first tile and the one after its last.

    A strip has at least ``least`` tiles: a short last one does some of its neighbour's again.
    """
    image, strip = e.divide(index, e.argument(Argument.STRIPS_PER_IMAGE))
    start = e.mul(strip, e.argument(Argument.TILES_PER_STRIP))
    tiles = e.argument(Argument.TILES)
    last = e.lesser(e.add(start, e.argument(Argument.TILES_PER_STRIP)), tiles)
    return image, e.lesser(start, e.sub(tiles, least)), last


def _corner(e: KernelEmitter, tile: Value) -> tuple[Value, Value, Value, Value]:
    """Return a tile's first row and column, and how many of each belong to the tile before."""
    row, column = e.divide(tile, e.argument(Argument.TILE_COLUMNS))
    row, column = e.mul(row, WINOGRAD_TILE), e.mul(column, WINOGRAD_TILE)
    first_row = e.lesser(row, e.argument(Argument.LAST_ROW))
    first_column = e.lesser(column, e.argument(Argument.LAST_COLUMN))
    return first_row, first_column, e.sub(row, first_row), e.sub(column, first_column)


def _twice(
    grid: Sequence[Sequence[Value]], e: KernelEmitter, step: Callable[..., list[Value]]
) -> list[list[Value]]:
    """Apply a 1-D transform to the rows and then to the columns of a square of vectors."""
    of = _Vectors(e)
    rows = [step(row, of) for row in grid]
    columns = [step(column, of) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _transform_strip(
    e: KernelEmitter,
    channels: int,
    image: Value,
    tiles: tuple[Value, Value],
    target: tuple[Value, Value, Value],
) -> None:
    """Stage 1 for the tiles from first to last."""
    base, place, origin = target
    x = e.offset(e.pointer(Argument.X), e.mul(image, e.argument(Argument.X_IMAGE)))
    row_stride, point_stride = e.argument(Argument.X_ROW), e.argument(Argument.TRANSFORMED_POINT)

    def tile(index: Value) -> None:
        first_row, first_column, _, _ = _corner(e, index)
        corner = e.offset(x, e.add(e.mul(first_row, row_stride), e.mul(first_column, channels)))
        rows = [e.offset(corner, e.mul(row_stride, row)) for row in range(POINTS)]
        out = e.offset(base, e.add(place, e.mul(e.sub(index, origin), channels)))

        def vector(channel: Value) -> None:
            grid = [
                [e.load(e.offset(row, channel), column * channels) for column in range(POINTS)]
                for row in rows
            ]
            place = e.offset(out, channel)
            for line in _twice(grid, e, transform_input):
                for number in line:
                    e.store(number, place)
                    place = e.offset(place, point_stride)

        e.loop(0, channels, vector, step=e.target.lanes)

    e.loop(*tiles, tile)


class _Vectors:
    """The arithmetic of the 1-D transforms, on vectors of channels."""

    def __init__(self, e: KernelEmitter) -> None:
        self.e = e

    def add(self, a: Value, b: Value, /) -> Value:
        return self.e.builder.fadd(a, b)

    def sub(self, a: Value, b: Value, /) -> Value:
        return self.e.builder.fsub(a, b)

    def fma(self, factor: float, b: Value, c: Value, /) -> Value:
        return self.e.fma(self.e.splat(factor), b, c)


class _Emitter:
    def __init__(self, kernel: WinogradKernel, name: str, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.e = e = KernelEmitter(name, target)
        self.nr = kernel.tile.vectors * target.lanes
        self.transformed = e.pointer(Argument.TRANSFORMED)
        self.products = e.pointer(Argument.PRODUCTS)
        self.weights = e.absolute(Argument.WEIGHTS)
        self.bias = e.absolute(Argument.BIAS)

    def emit(self) -> str:
        """Loop 1: the panels of this chunk, for the strip of this chunk."""
        e, kernel = self.e, self.kernel
        group, strip = e.divide(e.chunk, e.argument(Argument.STRIPS))
        image, first, last = _strip(e, strip, kernel.tile.pixels)
        if kernel.shared:
            place = e.mul(image, e.argument(Argument.TRANSFORMED_IMAGE))
            rows = e.offset(self.transformed, e.add(place, e.mul(first, kernel.input_channels)))
        else:
            rows = self.transformed
            target = (rows, 0, first)
            _transform_strip(e, kernel.input_channels, image, (first, last), target)
        start = e.mul(group, e.argument(Argument.BLOCKS_PER_CHUNK))
        stop = e.add(start, e.argument(Argument.BLOCKS_PER_CHUNK))

        def block(block: Value) -> None:
            self._multiply(block, rows, e.sub(last, first))
            self._finish(block, image, first, last)

        e.loop(start, e.lesser(stop, e.argument(Argument.BLOCKS)), block)
        return e.text()

    def _multiply(self, block: Value, rows: Value, count: Value) -> None:
        """Stage 2. Loop 2: the 36 products; loop 3: MR tiles at a time, the last ones overlap."""
        e, kernel = self.e, self.kernel
        terms, least = kernel.input_channels, kernel.tile.pixels
        panel = e.offset(self.weights, e.mul(block, PRODUCTS * terms * self.nr))

        def product(point: Value) -> None:
            weights = e.offset(panel, e.mul(point, terms * self.nr))
            a = e.offset(rows, e.mul(point, e.argument(Argument.TRANSFORMED_POINT)))
            c = e.offset(self.products, e.mul(point, e.argument(Argument.PRODUCTS_POINT)))

            def tiles(start: Value) -> None:
                first = e.lesser(start, e.sub(count, least))
                sums = self._sum(e.offset(a, e.mul(first, terms)), weights)
                out = e.offset(c, e.mul(first, self.nr))
                for place, total in enumerate(sums):
                    e.store(total, out, place * self.target.lanes)

            e.loop(0, count, tiles, step=least)

        e.loop(0, PRODUCTS, product)

    def _sum(self, a: Value, weights: Value) -> list[Value]:
        """Loop 4: input channels → MR·NV sums in registers."""
        e, terms, tile = self.e, self.kernel.input_channels, self.kernel.tile
        steps = unrolling(terms, tile)

        def turn(channel: Value, weights: Value, *sums: Value) -> list[Value]:
            here, new = e.offset(a, channel), list(sums)
            for step in range(steps):
                self._step(e.offset(here, step), e.offset(weights, step * self.nr), new)
            return [e.offset(weights, steps * self.nr), *new]

        zeros = [e.splat(0.0)] * (tile.pixels * tile.vectors)
        return e.loop(0, terms, turn, step=steps, carried=[weights, *zeros])[1:]

    def _step(self, a: Value, weights: Value, sums: list[Value]) -> None:
        """One step of the sums: NV vectors of weights against MR transformed numbers."""
        e, vectors = self.e, self.kernel.tile.vectors
        loaded = [e.load(weights, v * self.target.lanes) for v in range(vectors)]
        for m in range(self.kernel.tile.pixels):
            number = e.broadcast(a, m * self.kernel.input_channels)
            for v in range(vectors):
                place = m * vectors + v
                sums[place] = e.fma(number, loaded[v], sums[place])

    def _finish(self, block: Value, image: Value, first: Value, last: Value) -> None:
        """Stage 3 for the strip's tiles and one panel's channels."""
        e, kernel = self.e, self.kernel
        planes = [(Argument.Y, Argument.Y_IMAGE, Argument.Y_ROW)]
        if kernel.residual:
            planes.append((Argument.RESIDUAL, Argument.RESIDUAL_IMAGE, Argument.RESIDUAL_ROW))
        bias = e.offset(self.bias, e.mul(block, self.nr))
        point_stride = e.argument(Argument.PRODUCTS_POINT)

        def tile(index: Value) -> None:
            row, column, taken_rows, taken_columns = _corner(e, index)
            # What belongs to the tile before is stored where this tile's first own pixel
            # follows: no branches, and nobody else's memory is touched.
            columns = [
                e.mul(e.greater(taken_columns, c), kernel.output_channels)
                for c in range(WINOGRAD_TILE)
            ]
            pixels = []
            for plane, image_stride, row_stride in planes:
                start = e.add(
                    e.mul(image, e.argument(image_stride)),
                    e.mul(row, e.argument(row_stride)),
                    e.mul(column, kernel.output_channels),
                    e.mul(block, self.nr),
                )
                corner = e.offset(e.pointer(plane), start)
                for r in range(WINOGRAD_TILE):
                    line = e.offset(corner, e.mul(e.greater(taken_rows, r), e.argument(row_stride)))
                    pixels.append([e.offset(line, column) for column in columns])
            source = e.offset(self.products, e.mul(e.sub(index, first), self.nr))

            def vector(channel: Value) -> None:
                grid, place = [], e.offset(source, channel)
                for _ in range(POINTS):
                    line = []
                    for _ in range(POINTS):
                        line.append(e.load(place))
                        place = e.offset(place, point_stride)
                    grid.append(line)
                offset = e.load(e.offset(bias, channel))
                for r, line in enumerate(_twice(grid, e, transform_output)):
                    for c, number in enumerate(line):
                        total = e.builder.fadd(number, offset)
                        if kernel.residual:
                            other = e.offset(pixels[WINOGRAD_TILE + r][c], channel)
                            total = e.builder.fadd(total, e.load(other))
                        e.store(self._activated(total), e.offset(pixels[r][c], channel))

            e.loop(0, self.nr, vector, step=self.target.lanes)

        e.loop(first, last, tile)

    def _activated(self, total: Value) -> Value:
        e = self.e
        if self.kernel.activation == "relu":
            return e.maximum(e.splat(0.0), total)
        if self.kernel.activation == "leaky_relu":
            scaled = e.builder.fmul(total, e.splat(self.kernel.slope))
            positive = e.builder.fcmp_ordered(">", total, e.splat(0.0))
            return e.builder.select(positive, total, scaled)
        return total


def winograd_tasks(
    x: Plane,
    y: Plane,
    residual: Plane | None,
    weights: NDArray[np.float32],
    biases: NDArray[np.float32],
    target: Target,
    *,
    activation: Fusable = "none",
    slope: float = 0.0,
) -> tuple[list[Task], list[Plane]]:
    """Return the tasks of one layer, and the temporary planes that they hand on between them.

    ``weights`` and ``biases`` are packed; x has a halo of at least one pixel of zeros. y must not
    share memory with x or ``residual``.
    """
    images, height, width, oc = y.shape
    ic = x.shape[3]
    strips = choose_winograd_strips(height, width, ic, oc, target)
    tiles = winograd_tiles(height, width)
    columns = -(-width // WINOGRAD_TILE)
    cut, blocks = -(-tiles // strips.tiles), weights.shape[0]
    transformed_point = (tiles if strips.shared else strips.tiles) * ic + WINOGRAD_SKEW
    products_point = strips.tiles * (oc // blocks) + WINOGRAD_SKEW
    products_bytes = FLOAT * PRODUCTS * products_point
    first: dict[IntEnum, TaskArgument] = {
        **_places(x, y, residual, weights, biases),
        Argument.LAST_ROW: height - WINOGRAD_TILE,
        Argument.LAST_COLUMN: width - WINOGRAD_TILE,
        Argument.TILE_COLUMNS: columns,
        Argument.TILES: tiles,
        Argument.TRANSFORMED: SCRATCH,
        Argument.TRANSFORMED_OFFSET: products_bytes,
        Argument.TRANSFORMED_POINT: transformed_point,
        Argument.TRANSFORMED_IMAGE: PRODUCTS * transformed_point,
        Argument.TILES_PER_STRIP: columns,
        Argument.STRIPS_PER_IMAGE: tiles // columns,
    }
    second: dict[IntEnum, TaskArgument] = {
        **first,
        Argument.PRODUCTS: SCRATCH,
        Argument.PRODUCTS_OFFSET: 0,
        Argument.PRODUCTS_POINT: products_point,
        Argument.TILES_PER_STRIP: strips.tiles,
        Argument.STRIPS_PER_IMAGE: cut,
        Argument.STRIPS: images * cut,
        Argument.BLOCKS_PER_CHUNK: strips.blocks,
        Argument.BLOCKS: blocks,
    }
    kernel = WinogradKernel(
        ic, oc, strips.tile, strips.shared, residual is not None, activation, slope
    )
    chunks = images * cut * -(-blocks // strips.blocks)
    if not strips.shared:
        scratch = products_bytes + FLOAT * PRODUCTS * transformed_point
        return [Task(kernel, second, chunks, scratch=scratch)], []
    plane = Plane(f"{y.value} transformed", (images, 1, 1, PRODUCTS * transformed_point))
    for arguments in (first, second):
        del arguments[Argument.TRANSFORMED_OFFSET]
        arguments[Argument.TRANSFORMED] = plane.at()
    tasks = [
        Task(WinogradInputKernel(ic), first, images * (tiles // columns)),
        Task(kernel, second, chunks, scratch=products_bytes),
    ]
    return tasks, [plane]


def _places(
    x: Plane,
    y: Plane,
    residual: Plane | None,
    weights: NDArray[np.float32],
    biases: NDArray[np.float32],
) -> dict[IntEnum, TaskArgument]:
    """Return where everything lies, and the strides there."""
    places: dict[IntEnum, TaskArgument] = {
        Argument.X: x.at(x.origin - x.row - x.shape[3]),
        Argument.X_ROW: x.row,
        Argument.X_IMAGE: x.image,
        Argument.Y: y.at(),
        Argument.Y_ROW: y.row,
        Argument.Y_IMAGE: y.image,
        Argument.WEIGHTS: weights,
        Argument.BIAS: biases,
    }
    if residual is not None:
        places[Argument.RESIDUAL] = residual.at()
        places[Argument.RESIDUAL_ROW] = residual.row
        places[Argument.RESIDUAL_IMAGE] = residual.image
    return places
