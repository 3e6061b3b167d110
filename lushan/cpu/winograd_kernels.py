"""The generated code of Winograd's convolution: its three stages, for a strip of tiles.

``winograd`` says what they are and how a picture is cut into strips and chunks. A product of stage
2 is the inner loop of ``convolution`` with tiles for pixels: MR tiles × NV vectors of channels in
registers, one long sum over the input channels each, whatever the tiling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from lushan.cpu.convolution import Fusable
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.tiling import WINOGRAD_PRODUCTS, WINOGRAD_TILE, Tile, unrolling
from lushan.cpu.winograd_transform import POINTS, transform_input, transform_output


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
        panel = e.offset(self.weights, e.mul(block, WINOGRAD_PRODUCTS * terms * self.nr))

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

        e.loop(0, WINOGRAD_PRODUCTS, product)

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
