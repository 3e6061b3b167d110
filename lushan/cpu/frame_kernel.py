"""The kernel that makes a network's input of a raw frame: resize, convert and normalise in one.

Its meaning, to the last bit, is ``lushan.image.frame_input``. It works on as many rows of the
result at a time as a vector has lanes (L). For each plane:

1. rows of the frame are summed four at a time, byte by byte, whatever the bytes are: luma, chroma
   or all in turns. A weight of 14 bits is two of 8: w = 256 · high + low. So a step is four rows ×
   4 L columns, eight sums of bytes (``byte_arithmetic``).
2. the sums, as pairs of 16 bits of neighbouring columns, are transposed: a vector is then one pair
   of columns in L rows.

Then, for each column of the result, each channel is a sum of pairs with one weight for all lanes;
channels become colours, colours are normalised; and three colours × the width are transposed back
into rows of pixels. What interleaved formats have between the samples of a channel has no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import STEP, ByteArithmetic
from lushan.cpu.emit import F32, I8, I32, I64, KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.record import record

Floats = NDArray[np.float32]

DROPPED_BITS = 8  # of the sums of rows
COLOURS = 3


class Argument(IntEnum):
    """The kernel's arguments, by place. All pointers are absolute."""

    OUTPUT = 0  # float32 [HEIGHT, …]: the first value of the first row
    OUTPUT_ROW = auto()  # floats from row to row
    HEIGHT = auto()  # rows of the result, L or more
    WIDTH = auto()  # columns of the result, such that there are L values or more in a row
    CONSTANTS = auto()  # float32: see ``constants_of``
    MIDDLE = auto()  # scratch: int32 [L, most pairs]
    COLOURED = auto()  # scratch: float32 [3 · WIDTH, L]
    FIRST_PLANE = auto()


class PlaneArgument(IntEnum):
    """The arguments of one plane, counted from the first of them."""

    ADDRESSES = 0  # int64 [HEIGHT, 4 · STEPS]: where the columns begin, row by row
    WEIGHTS = auto()  # int32 [HEIGHT, STEPS, 2]: four int8 each, high and low
    STEPS = auto()
    TILES = auto()  # of 4 L bytes
    PAIRS = auto()  # scratch: int32 [2 L · TILES, L]


class ChannelArgument(IntEnum):
    """The arguments of one channel, counted from the first of them."""

    STARTS = 0  # int64 [WIDTH]: the first pair
    WEIGHTS = auto()  # int32 [WIDTH, COUNT]: two int16 each
    COUNT = auto()  # pairs of a sum


@record
class FrameKernel:
    """One kind of frame: the plane of each channel, and the channels of each colour.

    ``terms`` is one of ``lushan.image.frame_input.TERMS``.
    """

    planes: tuple[int, ...]
    terms: tuple[tuple[int, ...], ...]

    @property
    def plane_count(self) -> int:
        """How many planes the frame has."""
        return max(self.planes) + 1

    def plane_argument(self, plane: int, which: PlaneArgument) -> int:
        """Return the place of an argument of a plane."""
        return Argument.FIRST_PLANE + plane * len(PlaneArgument) + which

    def channel_argument(self, channel: int, which: ChannelArgument) -> int:
        """Return the place of an argument of a channel."""
        first = Argument.FIRST_PLANE + self.plane_count * len(PlaneArgument)
        return first + channel * len(ChannelArgument) + which

    @property
    def argument_count(self) -> int:
        """How many arguments there are."""
        return self.channel_argument(len(self.planes), ChannelArgument.STARTS)

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, name, target).text()


class _Emitter:
    def __init__(self, kernel: FrameKernel, name: str, target: Target) -> None:
        self.kernel = kernel
        self.e = KernelEmitter(name, target)
        self.bytes = ByteArithmetic(self.e)
        self.lanes = target.lanes

    def text(self) -> str:
        e = self.e
        height = e.argument(Argument.HEIGHT)
        blocks, _ = e.divide(e.add(height, self.lanes - 1), self.lanes)

        def block(index: Value) -> None:
            # The last block ends with the rows, and does some of them again.
            first = e.lesser(e.mul(index, self.lanes), e.sub(height, self.lanes))
            for plane in range(self.kernel.plane_count):
                self._sum_rows(plane, first)
                self._transpose_pairs(plane)
            self._columns()
            self._write(first)

        e.loop(0, blocks, block)
        return e.text()

    # --- rows ---------------------------------------------------------------------------------

    def _plane(self, plane: int, which: PlaneArgument) -> int:
        return self.kernel.plane_argument(plane, which)

    def _sum_rows(self, plane: int, first: Value) -> None:
        """Write pairs of columns of L rows of the result to MIDDLE, in the order of packing."""
        e, b = self.e, self.e.builder
        steps = e.argument(self._plane(plane, PlaneArgument.STEPS))
        tiles = e.argument(self._plane(plane, PlaneArgument.TILES))
        addresses = e.absolute(self._plane(plane, PlaneArgument.ADDRESSES), I64)
        weights = e.absolute(self._plane(plane, PlaneArgument.WEIGHTS), I32)
        middle = e.absolute(Argument.MIDDLE, I32)
        height = e.argument(Argument.HEIGHT)
        halves = ir.Constant(self.bytes.integers, [1 << (DROPPED_BITS - 1)] * self.lanes)
        dropped = ir.Constant(self.bytes.integers, [DROPPED_BITS] * self.lanes)

        def row(lane: Value) -> None:
            line = e.add(first, lane)
            places = e.offset(addresses, e.mul(line, e.mul(steps, STEP)))
            factors = e.offset(weights, e.mul(line, e.mul(steps, 2)))
            out = e.offset(middle, e.mul(lane, e.mul(tiles, 2 * self.lanes)))
            # The next row of the result needs about so many rows more: they may be in no cache.
            after = e.lesser(e.add(line, 1), e.sub(height, 1))
            coming = e.offset(addresses, e.mul(e.add(after, 1), e.mul(steps, STEP)))

            def tile(index: Value) -> None:
                column = e.mul(index, STEP * self.lanes)
                for row in range(1, STEP + 2):
                    e.prefetch(self._row(coming, -row, column), level=1)

                def step(number: Value, *sums: Value) -> list[Value]:
                    quads = self._four_rows(places, e.mul(number, STEP), column)
                    place = e.mul(number, 2)
                    high, low = (
                        self.bytes.as_weights(e.spread(b.load(e.offset(factors, e.add(place, i)))))
                        for i in (0, 1)
                    )
                    numbers = [self.bytes.as_numbers(quad) for quad in quads]
                    added = self.bytes.add_products
                    return [added(sums[i], numbers[i], high) for i in range(4)] + [
                        added(sums[4 + i], numbers[i], low) for i in range(4)
                    ]

                zero = self.bytes.zero()
                sums = e.loop(0, steps, step, carried=[zero] * 4 + [halves] * 4)
                # 256 · high + low, divided by 256.
                sums = [b.add(sums[i], b.ashr(sums[4 + i], dropped)) for i in range(4)]
                for half in (0, 1):
                    packed = self.bytes.pack_pairs(sums[2 * half], sums[2 * half + 1])
                    place = e.add(e.mul(index, 2 * self.lanes), half * self.lanes)
                    e.store(packed, out, place)

            e.loop(0, tiles, tile)

        e.loop(0, self.lanes, row)

    def _four_rows(self, places: Value, first: Value, column: Value) -> list[Value]:
        """Return 4 L columns of four rows as ``quads_of_rows``."""
        e, b = self.e, self.e.builder
        rows = []
        for row in range(STEP):
            pointer = self._row(places, e.add(first, row), column)
            vector = ir.VectorType(I8, STEP * self.lanes)
            rows.append(b.load(b.bitcast(pointer, vector.as_pointer()), align=1))
        return self.bytes.quads_of_rows(rows)

    def _row(self, places: Value, index: Value, column: Value) -> Value:
        """Return where a column begins of the row whose address is at ``places`` + ``index``."""
        b = self.e.builder
        address = b.load(self.e.offset(places, index))
        return b.inttoptr(b.add(address, column), I8.as_pointer())

    # --- transposing --------------------------------------------------------------------------

    def _transpose(self, vectors: list[Value]) -> list[Value]:
        """Return L vectors of L elements with rows and columns exchanged."""
        lanes = self.lanes
        half = lanes // 2
        while half:
            # Exchange the upper right and the lower left quarter of each square.
            keep = [j if not j & half else lanes + j - half for j in range(lanes)]
            take = [j + half if not j & half else lanes + j for j in range(lanes)]
            result = list(vectors)
            for i in range(lanes):
                if not i & half:
                    pair = vectors[i], vectors[i + half]
                    result[i] = self.e.shuffle(*pair, keep)
                    result[i + half] = self.e.shuffle(*pair, take)
            vectors = result
            half //= 2
        return vectors

    def _transpose_pairs(self, plane: int) -> None:
        """Write MIDDLE to the pairs of a plane, in the order of the columns."""
        e, lanes = self.e, self.lanes
        tiles = e.argument(self._plane(plane, PlaneArgument.TILES))
        middle = e.absolute(Argument.MIDDLE, I32)
        pairs = e.absolute(self._plane(plane, PlaneArgument.PAIRS), I32)
        row = e.mul(tiles, 2 * lanes)

        def tile(index: Value) -> None:
            start = e.mul(index, 2 * lanes)
            for half in (0, 1):
                place = e.add(start, half * lanes)
                rows = [e.load(middle, e.add(e.mul(row, r), place)) for r in range(lanes)]
                for lane, column in enumerate(self._transpose(rows)):
                    # Sixteen columns are eight pairs: four of the first half, four of the second.
                    pair = 8 * (lane // 4) + 4 * half + lane % 4
                    e.store(column, pairs, e.mul(e.add(start, pair), lanes))

        e.loop(0, tiles, tile)

    # --- columns ------------------------------------------------------------------------------

    def _columns(self) -> None:
        """Write normalised colours of L rows to COLOURED, [3 · WIDTH, L]."""
        e = self.e
        constants = e.absolute(Argument.CONSTANTS)
        coloured = e.absolute(Argument.COLOURED)
        channels = [self._channel(channel) for channel in range(len(self.kernel.planes))]
        count = len(self.kernel.planes)
        zero, most = e.splat(0.0), e.splat(255.0)

        def column(x: Value) -> None:
            values = [channel(x) for channel in channels]
            for colour, terms in enumerate(self.kernel.terms):
                products = [
                    e.builder.fmul(values[c], e.broadcast(constants, colour * count + c))
                    for c in terms
                ]
                level = products[0]
                for product in products[1:]:
                    level = e.builder.fadd(level, product)
                offset, factor, shift = (
                    e.broadcast(constants, COLOURS * (count + i) + colour) for i in range(3)
                )
                level = e.builder.fadd(level, offset)
                b = e.builder
                level = b.select(b.fcmp_ordered(">", level, zero), level, zero)
                level = b.select(b.fcmp_ordered("<", level, most), level, most)
                value = b.fadd(b.fmul(level, factor), shift)
                e.store(value, coloured, e.mul(e.add(e.mul(x, COLOURS), colour), self.lanes))

        e.loop(0, e.argument(Argument.WIDTH), column)

    def _channel(self, channel: int) -> Callable[[Value], Value]:
        """Return what emits the sums of a channel in a column of the result, as float32."""
        e, b = self.e, self.e.builder
        place = self.kernel.channel_argument
        starts = e.absolute(place(channel, ChannelArgument.STARTS), I64)
        weights = e.absolute(place(channel, ChannelArgument.WEIGHTS), I32)
        count = e.argument(place(channel, ChannelArgument.COUNT))
        plane = self.kernel.planes[channel]
        pairs = e.absolute(self._plane(plane, PlaneArgument.PAIRS), I32)

        def sums(x: Value) -> Value:
            first = e.offset(pairs, e.mul(b.load(e.offset(starts, x)), self.lanes))
            factors = e.offset(weights, e.mul(x, count))

            def pair(number: Value, total: Value) -> list[Value]:
                numbers = e.load(first, e.mul(number, self.lanes))
                weight = e.spread(b.load(e.offset(factors, number)))
                return [self.bytes.add_pairs(total, numbers, weight)]

            [total] = e.loop(0, count, pair, carried=[self.bytes.zero()])
            return self.bytes.sums_as_floats(total)

        return sums

    # --- the result ---------------------------------------------------------------------------

    def _write(self, first: Value) -> None:
        """Write COLOURED to L rows of the result."""
        e, lanes = self.e, self.lanes
        coloured = e.absolute(Argument.COLOURED)
        row = e.argument(Argument.OUTPUT_ROW)
        output = e.offset(e.absolute(Argument.OUTPUT, F32), e.mul(first, row))
        length = e.mul(e.argument(Argument.WIDTH), COLOURS)
        blocks, _ = e.divide(e.add(length, lanes - 1), lanes)

        def block(index: Value) -> None:
            start = e.lesser(e.mul(index, lanes), e.sub(length, lanes))
            columns = [e.load(coloured, e.mul(e.add(start, i), lanes)) for i in range(lanes)]
            for r, line in enumerate(self._transpose(columns)):
                e.store(line, output, e.add(e.mul(row, r), start))

        e.loop(0, blocks, block)


def constants_of(coefficients: Floats, offsets: Floats, factors: Floats, shifts: Floats) -> Floats:
    """Return CONSTANTS: coefficients [3, channels], then offsets, factors and shifts [3] each."""
    return np.concatenate([coefficients.ravel(), offsets, factors, shifts])
