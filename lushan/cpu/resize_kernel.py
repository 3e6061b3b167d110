"""The kernel that resizes and normalises pictures of four bytes a pixel, to the bits of Pillow.

A weight is a whole number of 2⁻²². Rows are resized first, into MIDDLE: each of its bytes is a sum
over pixels that follow each other, plus ½, its fraction dropped, cut to 0 … 255; then columns
likewise. Sums are of 32 bits, so their order does not matter, nor that a weight of 24 bits is three
digits of 8: w = 65536 · a + 256 · b + c (``byte_arithmetic``).

Along a row a step takes as many pixels as a vector has lanes (L), of L / 4 rows; within four pixels
the bytes of each channel are brought together. Down a column it takes four rows × 4 L bytes. A row
of the result is normalised at once, (x / 255 − mean) / std in steps of float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum, auto

from llvmlite import ir

from lushan.cpu.byte_arithmetic import STEP, ByteArithmetic
from lushan.cpu.emit import I8, I32, I64, KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.record import record

FRACTION_BITS = 22  # of a weight: Pillow's PRECISION_BITS
DIGITS = 3  # bytes of a weight
PIXEL = 4  # bytes
COLOURS = 3


class Argument(IntEnum):
    """The kernel's arguments, by place. All pointers are absolute."""

    SOURCE = 0  # the first row that this call reads
    SOURCE_ROW = auto()  # bytes from row to row
    ROWS = auto()  # that it reads: none, or L / 4 or more
    WIDTH = auto()  # pixels of a row of the result
    STARTS = auto()  # int64 [WIDTH]: bytes from the start of a row to the first pixel of a sum
    ACROSS = auto()  # int8 [WIDTH, GROUPS, 3, L, 4]: digits, the lowest first
    GROUPS = auto()  # of L pixels, in a sum
    MIDDLE = auto()  # bytes [rows, MIDDLE_ROW], as many as sums read; what no call made weighs 0
    FIRST = auto()  # the first row of MIDDLE that this call makes
    MIDDLE_ROW = auto()  # bytes from row to row there, a multiple of 4 L
    HEIGHT = auto()  # rows of the result that this call makes: none, or all
    TOPS = auto()  # int64 [HEIGHT]: the first row of a sum
    DOWN = auto()  # int32 [HEIGHT, STEPS, 3]: four digits each
    STEPS = auto()  # of four rows, in a sum
    LINE = auto()  # scratch: bytes [MIDDLE_ROW]
    CONSTANTS = auto()  # float32 [2, L]: mean and std of a lane's channel
    RESULT = auto()  # float32 [HEIGHT, WIDTH, 3], and 2 L behind it


def rows_together(lanes: int) -> int:
    """Return how many rows are resized at once, the fewest that there may be."""
    return lanes // PIXEL


@record
class ResizeKernel:
    """One kernel for all sizes and filters."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(name, target).text()


class _Emitter:
    def __init__(self, name: str, target: Target) -> None:
        self.e = KernelEmitter(name, target)
        self.bytes = ByteArithmetic(self.e)
        self.lanes = target.lanes
        self.vector = ir.VectorType(I8, STEP * self.lanes)

    def text(self) -> str:
        self._across()
        self._down()
        return self.e.text()

    # --- rows ---------------------------------------------------------------------------------

    def _across(self) -> None:
        """Write MIDDLE: L / 4 rows at a time, the last ones again if need be."""
        e = self.e
        together = rows_together(self.lanes)
        rows = e.argument(Argument.ROWS)
        source, stride = e.absolute(Argument.SOURCE, I8), e.argument(Argument.SOURCE_ROW)
        row_bytes = e.argument(Argument.MIDDLE_ROW)
        middle = e.offset(
            e.absolute(Argument.MIDDLE, I8), e.mul(e.argument(Argument.FIRST), row_bytes)
        )
        starts = e.absolute(Argument.STARTS, I64)
        weights = e.absolute(Argument.ACROSS, I8)
        groups = e.argument(Argument.GROUPS)
        blocks, _ = e.divide(e.add(rows, together - 1), together)

        def block(index: Value) -> None:
            first = e.lesser(e.mul(index, together), e.sub(rows, together))
            lines = [e.offset(source, e.mul(e.add(first, r), stride)) for r in range(together)]
            outs = [e.offset(middle, e.mul(e.add(first, r), row_bytes)) for r in range(together)]

            def column(x: Value) -> None:
                start = e.builder.load(e.offset(starts, x))
                size = DIGITS * STEP * self.lanes
                factors = e.offset(weights, e.mul(e.mul(x, groups), size))

                def group(number: Value, *sums: Value) -> list[Value]:
                    place = e.add(start, e.mul(number, STEP * self.lanes))
                    here = e.offset(factors, e.mul(number, size))
                    digits = [
                        self.bytes.weights(here, d * STEP * self.lanes) for d in range(DIGITS)
                    ]
                    pixels = (self._channels(self._load(line, place)) for line in lines)
                    return self._add(sums, pixels, digits)

                zeros = [self.bytes.zero()] * (DIGITS * together)
                sums = e.loop(0, groups, group, carried=zeros)
                totals = [self._total(sums[r * DIGITS :][:DIGITS]) for r in range(together)]
                pixels = self._as_bytes(self._of_blocks(totals))
                for r, out in enumerate(outs):
                    pixel = self.e.shuffle(pixels, pixels, range(r * PIXEL, (r + 1) * PIXEL))
                    place = e.offset(out, e.mul(x, PIXEL))
                    e.builder.store(pixel, self._as(place, pixel.type), align=1)

            e.loop(0, e.argument(Argument.WIDTH), column)

        e.loop(0, blocks, block)

    def _channels(self, pixels: Value) -> Value:
        """Return L pixels as lanes of four bytes of one channel: red, green, blue, the rest."""
        order = [
            start + pixel * PIXEL + channel
            for start in range(0, STEP * self.lanes, STEP * PIXEL)
            for channel in range(PIXEL)
            for pixel in range(STEP)
        ]
        return self.e.builder.bitcast(self.e.shuffle(pixels, pixels, order), self.bytes.integers)

    def _of_blocks(self, vectors: list[Value]) -> Value:
        """Return the sums of the blocks of four lanes of each of L / 4 vectors, one to a block."""
        half = len(vectors) // 2
        while half:
            lanes = range(self.lanes)
            # Blocks whose number lacks this bit are of the first vector, the others of the second.
            one = [j + self.lanes * bool(j // PIXEL & half) for j in lanes]
            other = [j ^ (PIXEL * half) for j in one]
            vectors = [
                self.e.builder.add(
                    self.e.shuffle(vectors[i], vectors[i + half], one),
                    self.e.shuffle(vectors[i], vectors[i + half], other),
                )
                for i in range(half)
            ]
            half //= 2
        return vectors[0]

    # --- columns ------------------------------------------------------------------------------

    def _down(self) -> None:
        """Write RESULT from MIDDLE, 4 L bytes at a time."""
        e, b = self.e, self.e.builder
        middle, row_bytes = e.absolute(Argument.MIDDLE, I8), e.argument(Argument.MIDDLE_ROW)
        finished = e.absolute(Argument.LINE, I8)
        tops, weights = e.absolute(Argument.TOPS, I64), e.absolute(Argument.DOWN, I32)
        steps = e.argument(Argument.STEPS)

        def row(y: Value) -> None:
            first = e.offset(middle, e.mul(b.load(e.offset(tops, y)), row_bytes))
            factors = e.offset(weights, e.mul(e.mul(y, steps), DIGITS))

            def tile(place: Value) -> None:
                def step(number: Value, *sums: Value) -> list[Value]:
                    line = e.offset(first, e.mul(e.mul(number, STEP), row_bytes))
                    rows = [
                        self._load(line, e.add(place, e.mul(row_bytes, r))) for r in range(STEP)
                    ]
                    here = e.offset(factors, e.mul(number, DIGITS))
                    digits = [
                        self.bytes.as_weights(e.spread(b.load(e.offset(here, d))))
                        for d in range(DIGITS)
                    ]
                    return self._add(sums, self.bytes.quads_of_rows(rows), digits)

                zeros = [self.bytes.zero()] * (DIGITS * STEP)
                sums = e.loop(0, steps, step, carried=zeros)
                quads = [
                    self._as_bytes(self._total(sums[q * DIGITS :][:DIGITS])) for q in range(STEP)
                ]
                out = self._as(e.offset(finished, place), self.vector)
                b.store(self._in_order(quads), out, align=1)

            e.loop(0, row_bytes, tile, step=STEP * self.lanes)
            self._normalise(finished, y)

        e.loop(0, e.argument(Argument.HEIGHT), row)

    def _in_order(self, quads: Sequence[Value]) -> Value:
        """Return the bytes of ``quads_of_rows`` as they followed each other in a row."""
        count = 2 * self.lanes
        first, second, third, fourth = quads
        halves = (
            self.e.shuffle(first, second, range(count)),
            self.e.shuffle(third, fourth, range(count)),
        )
        order = [
            q * self.lanes + block + lane
            for block in range(0, self.lanes, STEP)
            for q in range(STEP)
            for lane in range(STEP)
        ]
        return self.e.shuffle(*halves, order)

    def _normalise(self, line: Value, y: Value) -> None:
        """Write a row of RESULT. What is written behind it, the next row overwrites."""
        e, b = self.e, self.e.builder
        width, together = e.argument(Argument.WIDTH), self.lanes // PIXEL  # pixels of a vector
        constants = e.absolute(Argument.CONSTANTS)
        mean, std = e.load(constants), e.load(constants, self.lanes)
        out = e.offset(e.absolute(Argument.RESULT), e.mul(e.mul(y, width), COLOURS))
        order = [pixel * PIXEL + c for pixel in range(together) for c in range(COLOURS)]
        order += [0] * together

        def pixels(x: Value) -> None:
            levels = self.bytes.bytes_as_floats(e.load(line, e.mul(x, PIXEL)))
            values = b.fdiv(b.fsub(b.fdiv(levels, e.splat(255.0)), mean), std)
            e.store(self.e.shuffle(values, values, order), out, e.mul(x, COLOURS))

        e.loop(0, width, pixels, step=together)

    # --- both ---------------------------------------------------------------------------------

    def _add(
        self, sums: Sequence[Value], vectors: Iterable[Value], digits: Sequence[Value]
    ) -> list[Value]:
        """Return sums, one for each vector and digit, with the products of both added."""
        found: list[Value] = []
        for v, vector in enumerate(vectors):
            numbers = self.bytes.as_numbers(vector)
            found += [
                self.bytes.add_products(sums[v * DIGITS + d], numbers, digits[d])
                for d in range(DIGITS)
            ]
        return found

    def _total(self, digits: Sequence[Value]) -> Value:
        """Return the sums of the digits of weights as sums of weights."""
        b = self.e.builder
        total, *others = digits
        for number, part in enumerate(others, 1):
            total = b.add(total, b.shl(part, self._constant(8 * number)))
        return total

    def _as_bytes(self, totals: Value) -> Value:
        """Return sums plus ½ without their fractions, cut to 0 … 255, as bytes."""
        b, least, most = self.e.builder, self._constant(0), self._constant(255)
        whole = b.add(totals, self._constant(1 << (FRACTION_BITS - 1)))
        whole = b.ashr(whole, self._constant(FRACTION_BITS))
        whole = b.select(b.icmp_signed(">", whole, least), whole, least)
        whole = b.select(b.icmp_signed("<", whole, most), whole, most)
        return b.trunc(whole, ir.VectorType(I8, self.lanes))

    def _constant(self, number: int) -> Value:
        return ir.Constant(self.bytes.integers, [number] * self.lanes)

    def _load(self, line: Value, place: Value) -> Value:
        """Load 4 L bytes at ``line`` + ``place``."""
        return self.e.builder.load(self._as(self.e.offset(line, place), self.vector), align=1)

    def _as(self, pointer: Value, kind: ir.Type) -> Value:
        return self.e.builder.bitcast(pointer, kind.as_pointer())
