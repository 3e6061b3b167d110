"""The loops of a direct convolution, whatever its numbers are: float32, or bytes and int8.

A kernel goes through rectangles of output rows × panels of output channels. In a row it makes tiles
of MR pixels × NV vectors of channels, with all their sums in registers, one long sum each. What
one step of a sum is, how sums start and what becomes of them say ``convolution`` and
``quantized_convolution``. The input has its padding in memory already, so no border is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from llvmlite import ir

from lushan.cpu.emit import I64, KernelEmitter, Value, size_of
from lushan.cpu.sliding import Argument, SlidingKernel
from lushan.cpu.target import Target
from lushan.cpu.tiling import LINE_BYTES, MEANWHILE_TURNS, PREFETCHING_TILES
from lushan.record import record

Output: TypeAlias = "Callable[[], None]"  # emits what makes some outputs, and stores them
Place: TypeAlias = "tuple[Value, Value]"  # of an output row: its picture, its number there


@record
class _Stream:
    """A pointer that moves by ``step`` elements on each turn of the inner loop.

    ``lines`` cache lines from there on are prefetched.
    """

    start: Value
    step: Value
    lines: int


class ConvolutionLoops:
    """Emits a kernel; ``start``, ``step`` and ``outputs`` are left to say.

    ``elements`` are the types of the numbers of x (weights have as many bytes) and of y; the
    planes beside y have that of x.
    """

    def __init__(
        self,
        kernel: SlidingKernel,
        name: str,
        target: Target,
        elements: tuple[ir.Type, ir.Type],
    ) -> None:
        self.kernel = kernel
        self.target = target
        self.e = e = KernelEmitter(name, target)
        self.nr = kernel.channels(target)
        self.x = e.pointer(Argument.X, elements[0])
        self.y = e.pointer(Argument.Y, elements[1])
        self.beside = [e.pointer(Argument[name], elements[0]) for name in kernel.beside]
        self.weights = e.absolute(Argument.WEIGHTS, elements[0])
        self.line = LINE_BYTES // size_of(elements[0])

    def start(self, block: Value) -> list[Value]:
        """Return the MR·NV sums before the first term."""
        raise NotImplementedError

    def step(self, x: Value, weights: Value, sums: list[Value], pixels: range) -> None:
        """Make one step of the sums of ``pixels``: NV vectors of weights against input numbers."""
        raise NotImplementedError

    def outputs(
        self, sums: list[Value], y: Value, beside: Sequence[Value], block: Value, channels: int
    ) -> list[Output]:
        """Return what turns each sum of a tile into outputs and stores them.

        ``beside`` is where that place is in the kernel's planes beside the output; ``channels`` are
        the first of a panel, which are real.
        """
        raise NotImplementedError

    @property
    def overlaps(self) -> bool:
        """Whether a tile's outputs are made while the next tile's first products are.

        Both tiles' sums must fit the registers. It pays where the end of a sum is long beside it.
        """
        return False

    def emit(self) -> str:
        """Loop 1: the rows of this chunk; loop 2: its panels, which stay in L2 for all rows."""
        e = self.e
        group, part = e.divide(e.chunk, e.argument(Argument.ROW_CHUNKS))
        first_block = e.mul(group, e.argument(Argument.BLOCKS_PER_CHUNK))
        last_block = e.lesser(
            e.add(first_block, e.argument(Argument.BLOCKS_PER_CHUNK)), e.argument(Argument.BLOCKS)
        )
        first_row = e.mul(part, e.argument(Argument.ROWS_PER_CHUNK))
        last_row = e.lesser(
            e.add(first_row, e.argument(Argument.ROWS_PER_CHUNK)), e.argument(Argument.ROWS)
        )
        # What this thread is likely to need after this chunk.
        later = e.add(e.chunk, 1)
        later_group, later_part = e.divide(later, e.argument(Argument.ROW_CHUNKS))
        blocks_ahead = e.mul(e.sub(later_group, group), e.argument(Argument.BLOCKS_PER_CHUNK))
        weights_ahead = e.mul(blocks_ahead, self.kernel.panel(self.target))
        later_row = e.mul(later_part, e.argument(Argument.ROWS_PER_CHUNK))

        def rows(row: Value, *pending: Value) -> list[Value]:
            turn = e.sub(row, first_row)
            following = e.add(row, 1)
            is_inside = e.builder.icmp_signed("<", following, last_row)
            following = e.builder.select(is_inside, following, later_row)
            place = e.divide(row, e.argument(Argument.ROWS_PER_IMAGE))
            following_place = e.divide(following, e.argument(Argument.ROWS_PER_IMAGE))
            input_ahead = e.sub(self._window(following_place), self._window(place))

            def panels(block: Value, *pending: Value) -> list[Value]:
                is_first = e.builder.icmp_signed("==", block, first_block)
                ahead = weights_ahead, e.builder.select(is_first, input_ahead, I64(0))
                return self._row(block, place, turn, ahead, pending)

            return e.loop(first_block, last_block, panels, carried=pending)

        pending = self._nothing(first_block) if self.overlaps else []
        last = e.loop(first_row, last_row, rows, carried=pending)
        for output in self._pending_outputs(last):
            output()
        return e.text()

    def _nothing(self, block: Value) -> list[Value]:
        """Return a tile to carry on before the first one: its outputs go where nobody reads."""
        nowhere = self.e.scratch(self.y.type.pointee)
        return [*self.start(block), nowhere, *[nowhere] * len(self.beside), block]

    def _start(self, place: Place, image_stride: Argument, row_stride: Argument) -> Value:
        """Return the elements before an output row, in a plane."""
        e, (image, y) = self.e, place
        return e.add(e.mul(image, e.argument(image_stride)), e.mul(y, e.argument(row_stride)))

    def _window(self, place: Place) -> Value:
        """Return the elements before the windows of an output row, in x."""
        return self._start(place, Argument.X_IMAGE, Argument.X_ROW)

    def _window_rows(self, place: Place) -> tuple[Value, Value]:
        """Return the first row of the windows of an output row, and the one after the last.

        Where padding is skipped, those that lie in the input; at least one where all are outside.
        """
        e, rows = self.e, self.kernel.window[0]
        if not self.kernel.skips:
            return 0, rows
        above = e.sub(e.argument(Argument.TOP), e.mul(place[1], e.argument(Argument.STRIDE)))
        first = e.lesser(e.greater(above, 0), rows - 1)
        return first, e.lesser(e.add(above, e.argument(Argument.HEIGHT)), rows)

    def _row(
        self,
        block: Value,
        place: Place,
        turn: Value,
        ahead: tuple[Value, Value],
        pending: Sequence[Value],
    ) -> list[Value]:
        """Loop 3: the tiles of one output row for one panel; ``turn`` is its number in the chunk.

        ``ahead`` is from a panel to the one needed later, and from the window of this row to that
        of the next; 0 where nothing of it is to be fetched. ``pending`` is the tile carried on
        from the row before, if tiles overlap; returned is the one for the next row.
        """
        e = self.e
        weights_ahead, input_ahead = ahead
        x_start = self._window(place)
        y_start = self._start(place, Argument.Y_IMAGE, Argument.Y_ROW)
        starts = [
            self._start(place, Argument[f"{name}_IMAGE"], Argument[f"{name}_ROW"])
            for name in self.kernel.beside
        ]
        rows = self._window_rows(place)
        width = e.argument(Argument.WIDTH)
        pixels = self.kernel.tile.pixels
        panel = e.offset(self.weights, e.mul(block, self.kernel.panel(self.target)))
        row_elements = self.kernel.panel(self.target) // self.kernel.window[0]

        def tile(start: Value, *pending: Value) -> list[Value]:
            first = e.lesser(start, e.sub(width, pixels))
            x = e.offset(self.x, e.add(x_start, e.mul(first, self.kernel.pixel)))
            output = e.add(e.mul(first, self.kernel.output_pixel), e.mul(block, self.nr))
            y = e.offset(self.y, e.add(y_start, output))
            beside = [
                e.offset(plane, e.add(start, output))
                for plane, start in zip(self.beside, starts, strict=True)
            ]
            done = e.add(e.mul(turn, width), start)  # pixels of this chunk, about
            weights = e.offset(panel, e.mul(rows[0], row_elements))
            streams = [
                _Stream(weights, e.integer(self._turn_elements()), 0),
                *self._weights_stream(panel, weights_ahead, done),
                self._input_stream(x, input_ahead),
            ]
            if self.kernel.spreads:
                # A pixel a turn: all at once, so many lines would fill the processor's queue.
                pitch = e.integer(self.kernel.output_pixel)
                streams += [_Stream(plane, pitch, self.nr // self.line) for plane in beside]
            else:
                for plane in beside:
                    self._fetch(plane)
            edges = (
                e.builder.icmp_signed("==", first, I64(0)),
                e.builder.icmp_signed("==", e.add(first, pixels), width),
            )
            sums = self._sum(x, rows, edges, streams, block, self._pending_outputs(pending))
            if self.overlaps:
                return [*sums, y, *beside, block]
            self._finish(sums, y, beside, block)
            return []

        return e.loop(0, width, tile, step=pixels, carried=pending)

    def _pending_outputs(self, tile: Sequence[Value]) -> list[Output]:
        """Return the outputs of a tile that was carried on: its sums, where they go, its panel."""
        if not tile:
            return []
        count = self.kernel.tile.pixels * self.kernel.tile.vectors
        y, beside = tile[count], tile[count + 1 : -1]
        return self.outputs(list(tile[:count]), y, beside, tile[-1], self.nr)

    def _fetch(self, plane: Value) -> None:
        """Ask for a tile of a plane beside the output: it is needed when the sums are done."""
        for m in range(self.kernel.tile.pixels):
            for line in range(0, self.nr, self.line):
                at = m * self.kernel.output_pixel + line
                self.e.prefetch(plane, at, level=1)

    def _weights_stream(self, panel: Value, ahead: Value, done: Value) -> list[_Stream]:
        """Return what the first tiles of a panel fetch of a later one: each its share."""
        if not self.kernel.prefetch:
            return []
        e = self.e
        lines = max(1, self._turn_elements() // self.line // PREFETCHING_TILES)
        share = self.kernel.panel(self.target) // PREFETCHING_TILES
        tile = e.lesser(e.divide(done, self.kernel.tile.pixels)[0], PREFETCHING_TILES)
        active = e.builder.icmp_signed("<", tile, I64(PREFETCHING_TILES))
        start = e.offset(panel, e.add(ahead, e.mul(tile, share)))
        return [_Stream(start, e.builder.select(active, I64(lines * self.line), I64(0)), lines)]

    def _input_stream(self, x: Value, ahead: Value) -> _Stream:
        """Return what a tile fetches of the next row: the last row of the window below its own.

        Those pixels follow each other in memory. Another thread may have written them, or they
        are many kilobytes apart: the processor does not see by itself what comes next.
        """
        e, kernel = self.e, self.kernel
        turns = math.prod(kernel.window) * kernel.steps // kernel.turn(self.target)
        lines = -(-kernel.tile.pixels * kernel.pixel // (self.line * turns))
        last_row = e.mul(e.argument(Argument.X_KERNEL_ROW), kernel.window[0] - 1)
        active = e.builder.icmp_signed("!=", ahead, I64(0))
        start = e.builder.select(active, e.add(ahead, last_row), I64(0))
        step = e.builder.select(active, I64(lines * self.line), I64(0))
        return _Stream(e.offset(x, start), step, lines)

    def _turn_elements(self) -> int:
        """Return the weights of a panel that one turn of the inner loop reads."""
        return self.kernel.turn(self.target) * self.kernel.step * self.nr

    def _sum(
        self,
        x: Value,
        rows: tuple[Value, Value],
        edges: tuple[Value, Value],
        streams: Sequence[_Stream],
        block: Value,
        meanwhile: Sequence[Output],
    ) -> list[Value]:
        """Loops 4 to 6: rows and columns of the window, input channels → MR·NV sums.

        ``rows`` are the first row and the one after the last; ``edges`` say whether the tile is the
        first of its row, and the last. The pointers of ``streams``, the panel's first, move along
        with the sum. With something to do ``meanwhile``, the first turns stand before the loops,
        and that among their steps.
        """
        e, kernel = self.e, self.kernel
        kh, kw = kernel.window
        kernel_row = e.argument(Argument.X_KERNEL_ROW) if kh > 1 else e.integer(0)
        pointers, sums = [stream.start for stream in streams], self.start(block)
        begin: list[Value] = []  # of the first position of the window: some turns are done already
        if meanwhile:
            length, pixels = kernel.turn(self.target), range(kernel.tile.pixels)
            turns = min(MEANWHILE_TURNS, kernel.steps // length)
            share = -(-len(meanwhile) // turns)
            line = e.offset(x, e.mul(rows[0], kernel_row))
            for turn in range(turns):
                here = e.offset(line, turn * length * kernel.step)
                part = meanwhile[turn * share : (turn + 1) * share]
                pointers, sums = self._turn(here, streams, pointers, sums, part, pixels)
            begin = [I64(turns * length)]

        def window_row(row: Value, *carried: Value) -> list[Value]:
            line = e.offset(x, e.mul(row, kernel_row))

            def column(place: Value, *carried: Value) -> list[Value]:
                here = e.offset(line, e.mul(place, kernel.tap))
                if not begin:
                    return self._terms(here, streams, carried, 0, edges)
                return [I64(0), *self._terms(here, streams, carried[1:], carried[0], edges)]

            return e.loop(0, kw, column, carried=carried)

        carried = e.loop(*rows, window_row, carried=[*begin, *pointers, *sums])
        return carried[len(begin) + len(pointers) :]

    def _terms(
        self,
        x: Value,
        streams: Sequence[_Stream],
        carried: Sequence[Value],
        begin: Value,
        edges: tuple[Value, Value],
    ) -> list[Value]:
        """Go through the terms of a run from ``begin`` on, without those that meet padding."""
        e, steps, everyone = self.e, self.kernel.steps, range(self.kernel.tile.pixels)
        before, after = self.kernel.edges
        first, last = begin, steps
        if before:
            first = e.greater(begin, e.builder.select(edges[0], I64(before), I64(0)))
            carried = self._part(x, streams, carried, (begin, first), everyone[1:])
        if after:
            last = e.builder.select(edges[1], I64(steps - after), I64(steps))
        carried = self._part(x, streams, carried, (first, last), everyone)
        if after:
            carried = self._part(x, streams, carried, (last, steps), everyone[:-1])
        return list(carried)

    def _part(
        self,
        x: Value,
        streams: Sequence[_Stream],
        carried: Sequence[Value],
        steps: tuple[Value, Value],
        pixels: range,
    ) -> list[Value]:
        """Go through some steps of a run, from one on to before another, for ``pixels``."""

        def turn(first: Value, *carried: Value) -> list[Value]:
            here = self.e.offset(x, self.e.mul(first, self.kernel.step))
            pointers, sums = carried[: len(streams)], list(carried[len(streams) :])
            moved, sums = self._turn(here, streams, pointers, sums, (), pixels)
            return [*moved, *sums]

        return self.e.loop(*steps, turn, step=self.kernel.turn(self.target), carried=carried)

    def _turn(
        self,
        x: Value,
        streams: Sequence[_Stream],
        pointers: Sequence[Value],
        sums: list[Value],
        meanwhile: Sequence[Output],
        pixels: range,
    ) -> tuple[list[Value], list[Value]]:
        """Make one turn of the inner loop; return the moved pointers and the new sums."""
        e, step, steps = self.e, self.kernel.step, self.kernel.turn(self.target)
        for pointer, stream in zip(pointers, streams, strict=True):
            for line in range(stream.lines):
                e.prefetch(pointer, line * self.line)
        share = -(-len(meanwhile) // steps)
        for number in range(steps):
            weights = e.offset(pointers[0], number * step * self.nr)
            self.step(e.offset(x, number * step), weights, sums, pixels)
            for output in meanwhile[number * share : (number + 1) * share]:
                output()
        moved = [e.offset(p, stream.step) for p, stream in zip(pointers, streams, strict=True)]
        return moved, sums

    def _finish(self, sums: list[Value], y: Value, beside: Sequence[Value], block: Value) -> None:
        """Make and store the outputs of a tile; the last panel may be partly filled."""
        e = self.e

        def make(channels: int) -> None:
            for output in self.outputs(sums, y, beside, block, channels):
                output()

        rest = self.kernel.output_channels % self.nr
        blocks = self.kernel.blocks(self.target)
        if not rest or blocks == 1:
            make(rest or self.nr)
            return
        is_last = e.builder.icmp_unsigned("==", block, e.integer(blocks - 1))
        e.choose(is_last, lambda: make(rest), lambda: make(self.nr))

    def each_vector(self, channels: int) -> list[tuple[int, int, int, int]]:
        """Return what a store needs of every sum of a panel with so many real channels.

        That is its number, its vector of the panel, its place after the first output, its lanes.
        """
        found = []
        for number in range(self.kernel.tile.pixels * self.kernel.tile.vectors):
            m, v = divmod(number, self.kernel.tile.vectors)
            used = min(self.target.lanes, channels - v * self.target.lanes)
            if used > 0:
                place = m * self.kernel.output_pixel + v * self.target.lanes
                found.append((number, v, place, used))
        return found
