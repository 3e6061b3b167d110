"""The generated code of Winograd's gradient by the weight; ``winograd_gradient`` has the meaning.

A transformed plane lies in blocks of a vector of channels, [P, C/L, tiles, L]: a product reads its
numbers in lines. A tile of registers is MR output channels × NV vectors of input channels; each of
the strip's tiles adds one product to each sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto

from llvmlite import ir

from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.tiling import Tile
from lushan.cpu.winograd_tiles import Spread, corner, store_points, transform_inputs, twice
from lushan.cpu.winograd_tiling import WINOGRAD_GRADIENT_BLOCK, winograd_products
from lushan.cpu.winograd_transform import TAPS, matrices, transform_gradient
from lushan.record import record


class Argument(IntEnum):
    """The arguments of transforms and sums, by place. Strides are in elements."""

    X = 0  # and X + 1: the window of the first output pixel
    GRADIENT = 2  # and GRADIENT + 1: grad_y
    X_POINTS = 4  # and X_POINTS + 1: [P, IC/L, tiles, L], a plane or in scratch memory
    GRADIENT_POINTS = 6  # [P, OC/L, tiles, L]
    GRADIENT_POINTS_OFFSET = 7
    SUMS = 8  # and SUMS + 1: [slices, P, OC, IC]
    X_ROW = 10
    X_IMAGE = auto()
    GRADIENT_ROW = auto()
    GRADIENT_IMAGE = auto()
    LAST_ROW = auto()
    LAST_COLUMN = auto()
    TILE_COLUMNS = auto()
    TILES_PER_IMAGE = auto()
    FIRST = auto()  # tile of this task
    TILES = auto()  # the one after its last
    TILES_PER_CHUNK = auto()
    TILES_PER_STRIP = auto()  # that there is room for
    X_POINT = auto()  # from one of the P numbers to the next
    GRADIENT_POINT = auto()
    SUMS_POINT = auto()
    SLICE = auto()  # of the sums
    CHANNEL_PARTS = auto()  # parts of the output channels, a chunk each
    CHANNELS_PER_PART = auto()
    ADDS = auto()  # 1 where there are sums of earlier tiles, else 0


@record
class InputPointsKernel:
    """Transforms x; a chunk is some tiles."""

    outputs: int
    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        tiles = _tiles(e)
        origin = e.argument(Argument.FIRST)
        _transform_x(e, self.outputs, self.channels, tiles, origin)
        return e.text()


@record
class GradientPointsKernel:
    """Transforms grad_y; a chunk is some tiles."""

    outputs: int
    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        tiles = _tiles(e)
        _transform_gradient(e, self.outputs, self.channels, tiles, e.argument(Argument.FIRST))
        return e.text()


@record
class PointSumsKernel:
    """Sums over the tiles of transformed planes; a chunk is a point and some output channels."""

    channels: tuple[int, int]  # input, output
    tile: Tile

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        point, part = e.divide(e.chunk, e.argument(Argument.CHANNEL_PARTS))
        each = e.argument(Argument.CHANNELS_PER_PART)
        first = e.mul(part, each)
        last = e.lesser(e.add(first, each), self.channels[1])
        count = e.sub(e.argument(Argument.TILES), e.argument(Argument.FIRST))
        adds = e.builder.icmp_signed("!=", e.argument(Argument.ADDS), e.integer(0))
        sums = e.pointer(Argument.SUMS)
        _point_sums(e, self.channels, self.tile, point, (first, last), count, sums, adds)
        return e.text()


@record
class SliceSumsKernel:
    """All of it for a slice of the tiles, strip by strip in scratch memory; a chunk is a slice."""

    outputs: int
    channels: tuple[int, int]
    tile: Tile

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        first, last = _tiles(e)
        strip = e.argument(Argument.TILES_PER_STRIP)
        strips, _ = e.divide(e.sub(e.add(last, strip), e.add(first, 1)), strip)
        sums = e.offset(e.pointer(Argument.SUMS), e.mul(e.chunk, e.argument(Argument.SLICE)))

        def one(number: Value) -> None:
            start = e.add(first, e.mul(number, strip))
            stop = e.lesser(e.add(start, strip), last)
            _transform_x(e, self.outputs, self.channels[0], (start, stop), start)
            _transform_gradient(e, self.outputs, self.channels[1], (start, stop), start)
            adds = e.builder.icmp_signed("!=", number, e.integer(0))
            whole, count = (0, self.channels[1]), e.sub(stop, start)

            def point(index: Value) -> None:
                _point_sums(e, self.channels, self.tile, index, whole, count, sums, adds)

            e.loop(0, winograd_products(self.outputs), point)

        e.loop(0, strips, one)
        return e.text()


def _tiles(e: KernelEmitter) -> tuple[Value, Value]:
    """Return the first tile of this chunk and the one after its last."""
    each = e.argument(Argument.TILES_PER_CHUNK)
    first = e.add(e.argument(Argument.FIRST), e.mul(e.chunk, each))
    return first, e.lesser(e.add(first, each), e.argument(Argument.TILES))


def _spread(e: KernelEmitter, point: Argument) -> Spread:
    lanes = e.target.lanes
    vector = e.mul(e.argument(Argument.TILES_PER_STRIP), lanes)
    return Spread(lanes, vector, e.argument(point))


def _transform_x(
    e: KernelEmitter, outputs: int, channels: int, tiles: tuple[Value, Value], origin: Value
) -> None:
    """Transform x for the tiles from first to last; that called ``origin`` goes first."""
    spread = _spread(e, Argument.X_POINT)
    points = e.pointer(Argument.X_POINTS)
    transform_inputs(e, Argument, outputs, channels, tiles, origin, points, spread)


def _transform_gradient(
    e: KernelEmitter, outputs: int, channels: int, tiles: tuple[Value, Value], origin: Value
) -> None:
    """Transform grad_y likewise. What belongs to the tile before is 0: it counts once."""
    gradient, points = e.pointer(Argument.GRADIENT), e.pointer(Argument.GRADIENT_POINTS)
    image, row = e.argument(Argument.GRADIENT_IMAGE), e.argument(Argument.GRADIENT_ROW)
    spread = _spread(e, Argument.GRADIENT_POINT)
    zero = e.splat(0.0)

    def tile(index: Value) -> None:
        place = corner(e, Argument, outputs, index)
        start = e.offset(gradient, place.offset(e, image, row, channels))
        own_rows, own_columns = (
            [e.builder.icmp_signed(">=", e.integer(number), taken) for number in range(outputs)]
            for taken in (place.taken_rows, place.taken_columns)
        )
        number = e.sub(index, origin)

        def vector(channel: Value) -> None:
            here = e.offset(start, channel)
            grid = [
                [
                    e.builder.select(
                        e.builder.and_(own_row, own_column),
                        e.load(here, e.add(e.mul(row, r), c * channels)),
                        zero,
                    )
                    for c, own_column in enumerate(own_columns)
                ]
                for r, own_row in enumerate(own_rows)
            ]
            out = e.offset(points, spread.place(e, number, channel))
            store_points(e, twice(grid, e, transform_gradient), out, spread.point)

        e.loop(0, channels, vector, step=e.target.lanes)

    e.loop(*tiles, tile)


def _point_sums(
    e: KernelEmitter,
    channels: tuple[int, int],
    tile: Tile,
    point: Value,
    part: tuple[Value, Value],
    count: Value,
    sums: Value,
    adds: Value,
) -> None:
    """Sum the products of one point over ``count`` tiles, for a part of the output channels.

    The sums of a block of tiles begin at 0 and run in registers; then they are added to those of
    the blocks before, and where ``adds``, to what is in memory.
    """
    lanes, (input_channels, _) = e.target.lanes, channels
    block = e.mul(e.argument(Argument.TILES_PER_STRIP), lanes)
    x = e.offset(e.pointer(Argument.X_POINTS), e.mul(point, e.argument(Argument.X_POINT)))
    gradient = e.offset(
        e.pointer(Argument.GRADIENT_POINTS), e.mul(point, e.argument(Argument.GRADIENT_POINT))
    )
    sums = e.offset(sums, e.mul(point, e.argument(Argument.SUMS_POINT)))

    def tiles(start: Value) -> None:
        stop = e.lesser(e.add(start, WINOGRAD_GRADIENT_BLOCK), count)
        later = e.builder.or_(adds, e.builder.icmp_signed("!=", start, e.integer(0)))

        def inputs(ic: Value) -> None:
            vector, _ = e.divide(ic, lanes)
            x_lines = [
                e.offset(x, e.mul(e.add(vector, number), block)) for number in range(tile.vectors)
            ]

            def outputs(oc: Value) -> None:
                vector, lane = e.divide(oc, lanes)
                line = e.offset(gradient, e.add(e.mul(vector, block), lane))
                totals = _run(e, tile, x_lines, line, (start, stop))
                place = e.offset(sums, e.add(e.mul(oc, input_channels), ic))
                for number, total in enumerate(totals):
                    m, v = divmod(number, tile.vectors)
                    at = m * input_channels + v * lanes
                    joined = e.builder.fadd(e.load(place, at), total)
                    e.store(e.builder.select(later, joined, total), place, at)

            e.loop(*part, outputs, step=tile.pixels)

        e.loop(0, input_channels, inputs, step=tile.vectors * lanes)

    e.loop(0, count, tiles, step=WINOGRAD_GRADIENT_BLOCK)


def _run(
    e: KernelEmitter, tile: Tile, x: Sequence[Value], gradient: Value, tiles: tuple[Value, Value]
) -> list[Value]:
    """Return MR·NV sums over the tiles from first to last."""

    def turn(index: Value, *sums: Value) -> list[Value]:
        place = e.mul(index, e.target.lanes)
        vectors = [e.load(line, place) for line in x]
        new: list[Value] = []
        for m in range(tile.pixels):
            number = e.broadcast(gradient, e.add(place, m))
            own = sums[len(new) : len(new) + len(vectors)]
            new += [
                e.fma(number, vector, total) for vector, total in zip(vectors, own, strict=True)
            ]
        return new

    return e.loop(*tiles, turn, carried=[e.splat(0.0)] * (tile.pixels * tile.vectors))


class JoiningArgument(IntEnum):
    """The arguments of turning sums into taps, by place; a chunk is some output channels."""

    Y = 0  # and Y + 1: the gradient [OC, 3, 3, IC]
    SUMS = 2  # and SUMS + 1
    SUMS_POINT = 4
    SLICE = auto()
    SLICES = auto()
    CHANNELS = auto()  # OC
    CHANNELS_PER_CHUNK = auto()


@record
class TapsKernel:
    """Adds up slices, and makes 3×3 taps of each P sums, in float64."""

    outputs: int
    input_channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, channels = JoiningArgument, self.input_channels
        y, sums = e.pointer(a.Y), e.pointer(a.SUMS)
        point, slice_, slices = (e.argument(slot) for slot in (a.SUMS_POINT, a.SLICE, a.SLICES))
        each = e.argument(a.CHANNELS_PER_CHUNK)
        first = e.mul(e.chunk, each)
        last = e.lesser(e.add(first, each), e.argument(a.CHANNELS))
        side = range(self.outputs + TAPS - 1)

        def row(oc: Value) -> None:
            line, taps = e.offset(sums, e.mul(oc, channels)), e.mul(oc, TAPS * TAPS * channels)

            def vector(ic: Value) -> None:
                def total(number: int) -> Value:
                    here = e.offset(line, e.add(ic, e.mul(point, number)))

                    def add(index: Value, total: Value) -> list[Value]:
                        more = e.load(e.offset(here, e.mul(index, slice_)))
                        return [e.builder.fadd(total, more)]

                    return e.loop(1, slices, add, carried=[e.load(here)])[0]

                grid = [[total(r * len(side) + c) for c in side] for r in side]
                for tap, value in enumerate(_taps(e, grid, self.outputs)):
                    e.store(value, y, e.add(taps, ic, tap * channels))

            e.loop(0, channels, vector, step=target.lanes)

        e.loop(first, last, row)
        return e.text()


def _taps(e: KernelEmitter, grid: Sequence[Sequence[Value]], outputs: int) -> list[Value]:
    """Return the nine vectors Gᵀ·sums·G, rounded once."""
    b, G = e.builder, matrices(outputs)[2]
    wide = ir.VectorType(ir.DoubleType(), e.target.lanes)

    def multiply(numbers: Sequence[Value]) -> list[Value]:
        taps = []
        for tap in range(TAPS):
            total = None
            for g, number in zip(G, numbers, strict=True):
                if g[tap]:
                    factor = [ir.Constant(ir.DoubleType(), float(g[tap]))] * e.target.lanes
                    term = b.fmul(number, ir.Constant(wide, factor))
                    total = term if total is None else b.fadd(total, term)
            taps.append(total)
        return taps

    doubles = [[b.fpext(number, wide) for number in row] for row in grid]
    rows = [multiply(row) for row in doubles]
    columns = [multiply(column) for column in zip(*rows, strict=True)]
    return [b.fptrunc(number, e.vector) for row in zip(*columns, strict=True) for number in row]
