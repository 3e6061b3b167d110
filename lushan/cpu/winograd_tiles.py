"""What the kernels of Winograd's algorithms share: where tiles lie, and transforms of vectors.

A picture is cut into tiles of so many outputs squared; those of all pictures are one list. A height
or width that is not a multiple of a tile's ends with a tile that overlaps the one before.

The names of a kernel's arguments follow one pattern, as in ``rows``: a plane X has ``X`` (base),
the slot after it (offset), ``X_ROW`` and ``X_IMAGE`` (strides in elements). Where tiles lie is said
by ``LAST_ROW``, ``LAST_COLUMN``, ``TILE_COLUMNS`` and ``TILES_PER_IMAGE``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.winograd_tiling import winograd_tiles
from lushan.cpu.winograd_transform import points, transform_input


def tile_arguments(
    arguments: type[IntEnum], height: int, width: int, outputs: int
) -> dict[IntEnum, task.Argument]:
    """Return how pictures of so many outputs are cut into tiles."""
    return {
        arguments["LAST_ROW"]: height - outputs,
        arguments["LAST_COLUMN"]: width - outputs,
        arguments["TILE_COLUMNS"]: -(-width // outputs),
        arguments["TILES_PER_IMAGE"]: winograd_tiles(height, width, outputs),
    }


class Corner(NamedTuple):
    """Where a tile lies: its first output, and how much of it belongs to the tile before."""

    image: Value
    row: Value
    column: Value
    taken_rows: Value
    taken_columns: Value

    def offset(self, e: KernelEmitter, image: Value, row: Value, pixel: Value) -> Value:
        """Return the elements before the tile in a plane of such strides."""
        return e.add(e.mul(self.image, image), e.mul(self.row, row), e.mul(self.column, pixel))


def corner(e: KernelEmitter, arguments: type[IntEnum], outputs: int, tile: Value) -> Corner:
    """Return where a tile lies; the last ones of a row or column end with the picture."""
    image, place = e.divide(tile, e.argument(arguments["TILES_PER_IMAGE"]))
    row, column = e.divide(place, e.argument(arguments["TILE_COLUMNS"]))
    row, column = e.mul(row, outputs), e.mul(column, outputs)
    first_row = e.lesser(row, e.argument(arguments["LAST_ROW"]))
    first_column = e.lesser(column, e.argument(arguments["LAST_COLUMN"]))
    taken = e.sub(row, first_row), e.sub(column, first_column)
    return Corner(image, first_row, first_column, *taken)


def twice(
    grid: Sequence[Sequence[Value]], e: KernelEmitter, step: Callable[..., list[Value]]
) -> list[list[Value]]:
    """Apply a 1-D transform to the rows and then to the columns of a square of vectors."""
    of = _Vectors(e)
    rows = [step(row, of) for row in grid]
    columns = [step(column, of) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


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


class Spread(NamedTuple):
    """Where the P numbers of a tile's channels go: elements from one to the next of its kind."""

    tile: Value
    vector: Value
    point: Value

    def place(self, e: KernelEmitter, tile: Value, channel: Value) -> Value:
        """Return the elements before the first number of a tile, for a vector of channels."""
        vector, _ = e.divide(channel, e.target.lanes)
        return e.add(e.mul(tile, self.tile), e.mul(vector, self.vector))


def store_points(
    e: KernelEmitter, lines: Sequence[Sequence[Value]], pointer: Value, point: Value
) -> None:
    """Store the P numbers of a tile, one after the other, ``point`` elements apart."""
    for line in lines:
        for number in line:
            e.store(number, pointer)
            pointer = e.offset(pointer, point)


def transform_inputs(
    e: KernelEmitter,
    arguments: type[IntEnum],
    outputs: int,
    channels: int,
    tiles: tuple[Value, Value],
    origin: Value,
    transformed: Value,
    spread: Spread,
) -> None:
    """Transform the plane X for the tiles from first to last; that called ``origin`` goes first."""
    x = e.pointer(arguments["X"])
    image_stride, row_stride = e.argument(arguments["X_IMAGE"]), e.argument(arguments["X_ROW"])

    def tile(index: Value) -> None:
        place = corner(e, arguments, outputs, index).offset(e, image_stride, row_stride, channels)
        start = e.offset(x, place)
        rows = [e.offset(start, e.mul(row_stride, row)) for row in range(points(outputs))]
        number = e.sub(index, origin)

        def vector(channel: Value) -> None:
            grid = [
                [e.load(e.offset(row, channel), column * channels) for column in range(len(rows))]
                for row in rows
            ]
            out = e.offset(transformed, spread.place(e, number, channel))
            store_points(e, twice(grid, e, transform_input), out, spread.point)

        e.loop(0, channels, vector, step=e.target.lanes)

    e.loop(*tiles, tile)
