"""The gradient of a convolution by its weight: for each weight a sum over all output pixels.

The meaning is ``lushan.reference.convolution.convolution_backward_weight``. For one row of the
kernel it is a matrix product: the output channels of grad_y, times what lies under that row of the
window, over all pixels. A window's row is KW·IC numbers of x that follow each other (a *run*);
with groups or dilation it is one column of it at a time. A tile holds MR output channels × NV
vectors of a run in registers, all their sums; each pixel adds one product to each.

The order of the sums is fixed by shapes alone. Rows of grad_y, of all pictures, are cut into
slices, and a slice into blocks of rows. In a block a sum begins at 0 and runs in registers, pixel
after pixel; then it is added to the slice's. Slices are added in order at the end. So no sum in
float32 runs over more than some hundred pixels before it meets its like.

The last vector of a run ends with it and lies over the one before: the same sums, stored twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.sliding import Geometry
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import (
    Tile,
    WeightGradientCut,
    choose_weight_gradient_cut,
    choose_weight_gradient_tile,
)
from lushan.record import record


class Argument(IntEnum):
    """The arguments of the sums of slices, by place. Strides are in elements."""

    PARTIAL = 0  # and PARTIAL + 1: [slices, OC, taps, RV·lanes]
    GRADIENT = 2  # and GRADIENT + 1: grad_y
    X = 4  # and X + 1: the window of the first output pixel
    GRADIENT_ROW = 6
    GRADIENT_IMAGE = auto()
    X_ROW = auto()  # from the window of one output row to that of the next
    X_IMAGE = auto()
    X_KERNEL_ROW = auto()
    WIDTH = auto()  # pixels of a row of grad_y
    ROWS = auto()  # of all pictures
    ROWS_PER_IMAGE = auto()
    ROWS_PER_SLICE = auto()
    ROWS_PER_BLOCK = auto()
    CHANNEL_PARTS = auto()  # parts of the output channels, a chunk each
    CHANNELS_PER_PART = auto()  # a multiple of MR, but for the last


class JoiningArgument(IntEnum):
    """The arguments of adding up slices, by place; a chunk is some lines: a channel and a tap."""

    Y = 0  # and Y + 1: the gradient [OC, taps, run]
    PARTIAL = 2  # and PARTIAL + 1
    SLICES = 4
    LINES = auto()  # OC·taps
    LINES_PER_CHUNK = auto()
    LINE = auto()  # from one line of a tensor of this group to the next


@record
class WeightGradientKernel:
    """``window`` is (KH, KW / columns of a run); ``run`` the numbers under one tap of it.

    ``tap`` are the elements from one column of the window to the next, ``pixel`` from one output
    pixel's window to the next, ``output_pixel`` from one pixel of grad_y to the next.
    """

    window: tuple[int, int]
    run: int
    tap: int
    pixel: int
    output_channels: int
    output_pixel: int
    tile: Tile

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, KernelEmitter(name, target)).emit()


@record
class JoiningKernel:
    """Adds up slices of lines of so many numbers."""

    run: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, lanes = JoiningArgument, target.lanes
        vectors = -(-self.run // lanes)
        y, partial = e.pointer(a.Y), e.pointer(a.PARTIAL)
        lines = e.argument(a.LINES)
        slice_ = e.mul(lines, vectors * lanes)
        first = e.mul(e.chunk, e.argument(a.LINES_PER_CHUNK))
        last = e.lesser(e.add(first, e.argument(a.LINES_PER_CHUNK)), lines)

        def line(number: Value) -> None:
            start = e.offset(partial, e.mul(number, vectors * lanes))
            place = e.mul(number, e.argument(a.LINE))

            def vector(at: int | Value, to: int | Value, used: int) -> None:
                def add(index: Value, total: Value) -> list[Value]:
                    more = e.load(e.offset(start, e.mul(index, slice_)), at)
                    return [e.builder.fadd(total, more)]

                (total,) = e.loop(1, e.argument(a.SLICES), add, carried=[e.load(start, at)])
                e.store(total, y, e.add(place, to), lanes=used)

            whole = (vectors - 1) * lanes
            e.loop(0, whole, lambda at: vector(at, at, lanes), step=lanes)
            vector(whole, max(0, self.run - lanes), min(lanes, self.run))

        e.loop(first, last, line)
        return e.text()


class _Emitter:
    def __init__(self, kernel: WeightGradientKernel, e: KernelEmitter) -> None:
        self.kernel = kernel
        self.e = e
        self.lanes = e.target.lanes
        self.vectors = -(-kernel.run // self.lanes)
        self.taps = kernel.window[0] * kernel.window[1]
        self.line = self.vectors * self.lanes  # of a channel and a tap in the partial sums
        self.gradient = e.pointer(Argument.GRADIENT)
        self.x = e.pointer(Argument.X)
        self.partial = e.pointer(Argument.PARTIAL)

    def emit(self) -> str:
        """Loop 1: the blocks of rows of this chunk's slice; loop 2: its output channels."""
        e, kernel = self.e, self.kernel
        part, channel_part = e.divide(e.chunk, e.argument(Argument.CHANNEL_PARTS))
        each = e.argument(Argument.CHANNELS_PER_PART)
        first_channel = e.mul(channel_part, each)
        last_channel = e.lesser(e.add(first_channel, each), kernel.output_channels)
        first = e.mul(part, e.argument(Argument.ROWS_PER_SLICE))
        last = e.lesser(
            e.add(first, e.argument(Argument.ROWS_PER_SLICE)), e.argument(Argument.ROWS)
        )
        slice_ = e.mul(part, kernel.output_channels * self.taps * self.line)
        partial = e.offset(self.partial, slice_)
        block_rows = e.argument(Argument.ROWS_PER_BLOCK)
        blocks, _ = e.divide(e.sub(e.add(last, block_rows), e.add(first, 1)), block_rows)
        mr = kernel.tile.pixels
        # The last channels of the last part may be fewer than a tile: its own, smaller tile.
        rest = kernel.output_channels % mr
        whole = e.lesser(last_channel, kernel.output_channels - rest)

        def block(number: Value) -> None:
            start = e.add(first, e.mul(number, block_rows))
            stop = e.lesser(e.add(start, block_rows), last)
            is_first = e.builder.icmp_signed("==", number, e.integer(0))

            def channels(channel: Value, count: int) -> None:
                self._channels(partial, channel, count, (start, stop), is_first)

            e.loop(first_channel, whole, lambda channel: channels(channel, mr), step=mr)
            if rest:
                e.loop(whole, last_channel, lambda channel: channels(channel, rest), step=rest)

        e.loop(0, blocks, block)
        return e.text()

    def _channels(
        self, partial: Value, channel: Value, count: int, rows: tuple[Value, Value], is_first: Value
    ) -> None:
        """Loops 3 to 5: the taps of the window, then the vectors of a run, NV at a time."""
        e, kernel = self.e, self.kernel
        nv = kernel.tile.vectors
        whole = (self.vectors - 1) // nv * nv  # what is left has the last vector: 1 to NV of them
        line = e.offset(partial, e.mul(channel, self.taps * self.line))

        def tap(row: Value, column: Value) -> None:
            number = e.add(e.mul(row, kernel.window[1]), column)
            sums = e.offset(line, e.mul(number, self.line))
            x = e.add(e.mul(row, e.argument(Argument.X_KERNEL_ROW)), e.mul(column, kernel.tap))

            def vectors(first: Value, places: Sequence[int]) -> None:
                here = e.offset(self.x, e.add(x, first))
                self._tile(e.offset(sums, first), here, channel, count, places, rows, is_first)

            full = [v * self.lanes for v in range(nv)]
            e.loop(0, whole * self.lanes, lambda first: vectors(first, full), step=nv * self.lanes)
            start = whole * self.lanes
            last = max(0, kernel.run - self.lanes) - start
            vectors(
                e.integer(start),
                [*range(0, (self.vectors - 1) * self.lanes - start, self.lanes), last],
            )

        e.loop(
            0,
            kernel.window[0],
            lambda row: e.loop(0, kernel.window[1], lambda column: tap(row, column)),
        )

    def _tile(
        self,
        partial: Value,
        x: Value,
        channel: Value,
        count: int,
        places: Sequence[int],
        rows: tuple[Value, Value],
        is_first: Value,
    ) -> None:
        """Loops 6 and 7: rows and pixels. ``places`` are those of the vectors in x."""
        e, kernel = self.e, self.kernel
        gradient = e.offset(self.gradient, channel)
        used = min(self.lanes, kernel.run)
        width = e.argument(Argument.WIDTH)

        def row(number: Value, *sums: Value) -> list[Value]:
            image, y = e.divide(number, e.argument(Argument.ROWS_PER_IMAGE))
            x_row = e.offset(x, self._start(image, y, Argument.X_IMAGE, Argument.X_ROW))
            start = self._start(image, y, Argument.GRADIENT_IMAGE, Argument.GRADIENT_ROW)
            gradient_row = e.offset(gradient, start)

            def pixel(place: Value, *sums: Value) -> list[Value]:
                here = e.offset(x_row, e.mul(place, kernel.pixel))
                there = e.offset(gradient_row, e.mul(place, kernel.output_pixel))
                vectors = [e.load(here, at, lanes=used) for at in places]
                new: list[Value] = []
                for m in range(count):
                    number = e.broadcast(there, m)
                    own = sums[len(new) : len(new) + len(vectors)]
                    new += [
                        e.fma(number, vector, total)
                        for vector, total in zip(vectors, own, strict=True)
                    ]
                return new

            return e.loop(0, width, pixel, carried=sums)

        zeros = [e.splat(0.0)] * (count * len(places))
        sums = e.loop(*rows, row, carried=zeros)
        for number, total in enumerate(sums):
            m, v = divmod(number, len(places))
            at = m * self.taps * self.line + v * self.lanes
            joined = e.builder.fadd(e.load(partial, at), total)
            e.store(e.builder.select(is_first, total, joined), partial, at)

    def _start(self, image: Value, y: Value, image_stride: Argument, row: Argument) -> Value:
        e = self.e
        return e.add(e.mul(image, e.argument(image_stride)), e.mul(y, e.argument(row)))


def weight_gradient_tasks(
    grad_y: Plane,
    x: Plane,
    y: Plane,
    geometry: Geometry,
    window: tuple[int, int],
    groups: int,
    target: Target,
) -> tuple[list[Task], list[Plane]]:
    """Write the gradient of a weight [OC, KH, KW, IC/G] to the dense plane y of that shape.

    ``window`` is (KH, KW). The halo of ``x`` must be at least the padding. Returns the tasks and
    their temporary planes.
    """
    kh, kw = window
    oc, ic = grad_y.shape[3] // groups, x.shape[3] // groups
    columns = kw if groups == 1 and geometry.dilation[1] == 1 else 1
    run = ic * columns
    taps = kh * kw // columns
    tile = choose_weight_gradient_tile(oc, run, target)
    vectors = -(-run // target.lanes)
    n, ho, wo, _ = grad_y.shape
    row_bytes = FLOAT * (grad_y.row + geometry.stride[0] * x.row) // groups
    line = vectors * target.lanes
    cut = choose_weight_gradient_cut(n * ho, wo, row_bytes, FLOAT * oc * taps * line, oc, tile)
    kernel = WeightGradientKernel(
        (kh, kw // columns),
        run,
        geometry.dilation[1] * x.shape[3],
        geometry.stride[1] * x.shape[3],
        oc,
        grad_y.shape[3],
        tile,
    )
    sums, joins, partials = [], [], []
    for group in range(groups):
        # Each group has its own: their tasks need not wait for each other.
        partial = Plane(f"{y.value} partial {group}", (cut.slices, oc, taps, line))
        partials.append(partial)
        sums.append(Task(kernel, _sums(grad_y, x, geometry, group, (oc, ic), cut, partial),
                         cut.slices * cut.channel_parts))  # fmt: skip
        lines = oc * taps
        each = max(1, min(lines, 2**14 // (cut.slices * line)))
        arguments: dict[IntEnum, task.Argument] = {
            JoiningArgument.Y: y.at(group * lines * run),
            JoiningArgument.PARTIAL: partial.at(),
            JoiningArgument.SLICES: cut.slices,
            JoiningArgument.LINES: lines,
            JoiningArgument.LINES_PER_CHUNK: each,
            JoiningArgument.LINE: run,
        }
        joins.append(Task(JoiningKernel(run), arguments, -(-lines // each), waits=group == 0))
    return [*sums, *joins], partials


def _sums(
    grad_y: Plane,
    x: Plane,
    geometry: Geometry,
    group: int,
    channels: tuple[int, int],
    cut: WeightGradientCut,
    partial: Plane,
) -> dict[IntEnum, task.Argument]:
    top, _, left, _ = geometry.padding
    n, h, w, _ = grad_y.shape
    oc, ic = channels
    return {
        Argument.PARTIAL: partial.at(),
        Argument.GRADIENT: grad_y.at(grad_y.origin + group * oc),
        Argument.X: x.at(x.origin - top * x.row - left * x.shape[3] + group * ic),
        Argument.GRADIENT_ROW: grad_y.row,
        Argument.GRADIENT_IMAGE: grad_y.image,
        Argument.X_ROW: geometry.stride[0] * x.row,
        Argument.X_IMAGE: x.image,
        Argument.X_KERNEL_ROW: geometry.dilation[0] * x.row,
        Argument.WIDTH: w,
        Argument.ROWS: n * h,
        Argument.ROWS_PER_IMAGE: h,
        Argument.ROWS_PER_SLICE: cut.rows_per_slice,
        Argument.ROWS_PER_BLOCK: cut.rows_per_block,
        Argument.CHANNEL_PARTS: cut.channel_parts,
        Argument.CHANNELS_PER_PART: cut.channels_per_part,
    }
