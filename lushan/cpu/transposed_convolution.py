"""Transposed convolution: every output pixel gathers the input pixels that were sent to it.

The meaning is ``lushan.reference.convolution.transposed_convolution``. Output row ho hears from
input row h through kernel row kh where

    h · stride = ho + top − kh · dilation

so a kernel row counts where the right side is a multiple of the stride with h in the picture, and
columns alike. Output pixels that are ``stride`` apart (a *phase* of the row) hear through the same
kernel columns, from neighbouring input pixels: a tile holds MR of them × NV vectors of output
channels, and the loads of weights are shared. Where one of them hears from beyond the picture, it
reads a line of zeros instead, so no halo is needed and none is read. The sum starts with the bias
and runs over kernel rows, kernel columns and input channels of the group.
"""

from __future__ import annotations

import math
from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import each_row, image_pointer, plane_arguments, row_arguments, row_pointer
from lushan.cpu.target import Target
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import TRANSPOSED_TILES
from lushan.record import record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    Y_ROW = 4
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    WEIGHTS = auto()
    BIAS = auto()
    ZEROS = auto()  # as many as a group has input channels
    HEIGHT = auto()  # of the input
    WIDTH = auto()
    OUTPUT_WIDTH = auto()
    ROWS = auto()  # of the output
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@record
class TransposedConvolutionKernel:
    """``window`` is (KH, KW); ``padding`` is (top, left); channels are those of one group.

    What lies below and to the right needs no number: the output ends there.
    """

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    input_channels: int
    output_channels: int

    def shapes(self, target: Target) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of packed weights and biases."""
        block = self.block(target)
        room = -(-block // target.lanes) * target.lanes
        blocks = self.groups, len(self.blocks(target))
        return (*blocks, *self.window, self.input_channels, room), (*blocks, room)

    def block(self, target: Target) -> int:
        """Return how many output channels of a group are summed at a time."""
        vectors = min(
            TRANSPOSED_TILES[target.registers].vectors, self.output_channels // target.lanes
        )
        return vectors * target.lanes or self.output_channels

    def blocks(self, target: Target) -> list[int]:
        """Return the first channel of each block of a group; the last ends with the group."""
        block = self.block(target)
        last = self.output_channels - block
        return [min(start, last) for start in range(0, self.output_channels, block)]

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, KernelEmitter(name, target)).emit()


Packed = tuple[NDArray[np.float32], NDArray[np.float32]]  # weights, and biases


def pack_weights(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    kernel: TransposedConvolutionKernel,
    packed: Packed,
    target: Target,
) -> None:
    """Pack weight [IC, KH, KW, OC/G] and bias [OC] into blocks of NR output channels.

    They are [G, blocks, KH, KW, IC/G, NR] and [G, blocks, NR], each vector of a block in full:
    channels that there are not get zeros.
    """
    groups, block = kernel.groups, kernel.block(target)
    split = weight.reshape(groups, kernel.input_channels, *kernel.window, kernel.output_channels)
    bias = bias.reshape(groups, kernel.output_channels)
    weights, biases = packed
    weights[...] = 0
    biases[...] = 0
    for number, start in enumerate(kernel.blocks(target)):
        chosen = slice(start, start + block)
        weights[:, number, ..., :block] = np.moveaxis(split[..., chosen], 1, 3)
        biases[:, number, :block] = bias[:, chosen]


class _Emitter:
    def __init__(self, kernel: TransposedConvolutionKernel, e: KernelEmitter) -> None:
        self.kernel = kernel
        self.e = e
        lanes = e.target.lanes
        block = kernel.block(e.target)
        self.pieces = [(at, min(lanes, block - at)) for at in range(0, block, lanes)]
        self.room = len(self.pieces) * lanes
        self.pixels = TRANSPOSED_TILES[e.target.registers].pixels
        self.count = len(kernel.blocks(e.target))
        self.weights = e.absolute(Argument.WEIGHTS)
        self.bias = e.absolute(Argument.BIAS)
        self.zeros = e.absolute(Argument.ZEROS)

    def emit(self) -> str:
        """Loops 1 to 3: groups, blocks, then the rows of this chunk under the same weights."""
        e, kernel = self.e, self.kernel

        def block(group: Value, number: Value) -> None:
            channel = e.lesser(
                e.mul(number, self.room), kernel.output_channels - kernel.block(e.target)
            )
            place = e.add(e.mul(group, self.count), number)
            each_row(e, Argument, lambda image, y: self._row(image, y, group, channel, place))

        def group(group: Value) -> None:
            e.loop(0, self.count, lambda number: block(group, number))

        e.loop(0, kernel.groups, group)
        return e.text()

    def _row(self, image: Value, y: Value, group: Value, channel: Value, block: Value) -> None:
        """Loops 4 and 5: the phases of one output row, and their tiles."""
        e, kernel = self.e, self.kernel
        x = image_pointer(e, Argument, "X", image)
        x = e.offset(x, e.mul(group, kernel.input_channels))
        channel = e.add(e.mul(group, kernel.output_channels), channel)
        y_row = e.offset(row_pointer(e, Argument, "Y", image, y), channel)
        width = e.argument(Argument.OUTPUT_WIDTH)
        stride = kernel.stride[1]

        def phase(shift: Value) -> None:
            count, _ = e.divide(e.add(e.sub(width, shift), stride - 1), stride)

            def tile(first: Value) -> None:
                # A tile that goes beyond the row has its last pixel several times.
                last = e.sub(count, 1)
                places = [e.lesser(e.add(first, m), last) for m in range(self.pixels)]
                sums = self._sum(x, block, y, shift, places)
                for m, place in enumerate(places):
                    pixel = e.add(shift, e.mul(place, stride))
                    y_pixel = e.offset(y_row, e.mul(pixel, kernel.groups * kernel.output_channels))
                    own = sums[m * len(self.pieces) :]
                    for (at, used), total in zip(self.pieces, own, strict=False):
                        e.store(total, y_pixel, at, lanes=used)

            e.loop(0, count, tile, step=self.pixels)

        e.loop(0, e.lesser(width, stride), phase)

    def _sum(
        self, x: Value, block: Value, y: Value, shift: Value, places: list[Value]
    ) -> list[Value]:
        """Loops 6 and 7: the kernel's rows and columns that this row and phase hear through."""
        e, kernel = self.e, self.kernel
        kh, kw = kernel.window
        tap = kernel.input_channels * self.room
        weights = e.offset(self.weights, e.mul(block, kh * kw * tap))
        bias = e.offset(self.bias, e.mul(block, self.room))
        start = [e.load(bias, at) for at, _ in self.pieces] * self.pixels
        stride = e.argument(Argument.X_ROW)
        height = e.argument(Argument.HEIGHT)

        def row(number: Value, *sums: Value) -> list[Value]:
            h, heard = self._source(y, number, 0)
            there = e.builder.and_(heard, e.builder.icmp_unsigned("<", h, height))
            line = e.offset(x, e.mul(h, stride))
            row_weights = e.offset(weights, e.mul(number, kw * tap))

            def column(number: Value, *sums: Value) -> list[Value]:
                w, heard = self._source(shift, number, 1)
                turns = e.builder.select(heard, e.integer(kernel.input_channels), e.integer(0))
                sources = [self._pixel(line, e.add(w, place)) for place in places]
                return self._terms(sources, e.offset(row_weights, e.mul(number, tap)), turns, sums)

            columns = e.builder.select(there, e.integer(kw), e.integer(0))
            return e.loop(0, columns, column, carried=sums)

        return e.loop(0, kh, row, carried=start)

    def _source(self, place: Value, number: Value, axis: int) -> tuple[Value, Value]:
        """Return the input row that kernel row ``number`` joins to output row ``place``.

        And whether there is such a row, in the picture or beyond. Columns likewise.
        """
        e, stride = self.e, self.kernel.stride[axis]
        reach = e.mul(number, self.kernel.dilation[axis])
        # ``stride`` times the reach is added before the division, which takes no negative number.
        sent = e.add(place, self.kernel.padding[axis], e.mul(reach, stride - 1))
        source, rest = e.divide(sent, stride)
        return e.sub(source, reach), e.builder.icmp_unsigned("==", rest, e.integer(0))

    def _pixel(self, line: Value, w: Value) -> Value:
        """Return the address of an input pixel, or of zeros where it is not in the picture."""
        e, kernel = self.e, self.kernel
        # A negative number is a huge one here.
        there = e.builder.icmp_unsigned("<", w, e.argument(Argument.WIDTH))
        pixel = e.offset(line, e.mul(w, kernel.groups * kernel.input_channels))
        return e.builder.select(there, pixel, self.zeros)

    def _terms(
        self, sources: list[Value], panel: Value, turns: Value, sums: tuple[Value, ...]
    ) -> list[Value]:
        """Loop 8: input channels."""
        e = self.e

        def term(channel: Value, *sums: Value) -> list[Value]:
            place = e.offset(panel, e.mul(channel, self.room))
            vectors = [e.load(place, at) for at, _ in self.pieces]
            new: list[Value] = []
            for source in sources:
                number = e.broadcast(source, channel)
                own = sums[len(new) :]
                new += [
                    e.fma(number, vector, total)
                    for vector, total in zip(vectors, own, strict=False)
                ]
            return new

        return e.loop(0, turns, term, carried=sums)


def transposed_convolution_kernel(
    weight: tuple[int, ...],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> TransposedConvolutionKernel:
    """Return the kernel for a weight of this shape, [IC, KH, KW, OC/G].

    ``padding`` is (top, bottom, left, right).
    """
    input_channels, kh, kw, output_channels = weight
    return TransposedConvolutionKernel(
        (kh, kw),
        stride,
        (padding[0], padding[2]),
        dilation,
        groups,
        input_channels // groups,
        output_channels,
    )


def transposed_convolution_tasks(
    x: Plane, y: Plane, kernel: TransposedConvolutionKernel, packed: Packed
) -> list[Task]:
    """Write the transposed convolution of x to y, whose size says what ``output_padding`` was.

    ``packed`` is what ``pack_weights`` writes.
    """
    _, h, w, _ = x.shape
    _, _, output_width, output_channels = y.shape
    # A chunk reads all weights: few chunks, however little a row moves.
    moved = output_width * output_channels * math.prod(kernel.window)
    cut, chunks = row_arguments(Argument, y, moved)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, X=x, Y=y),
        **cut,
        Argument.WEIGHTS: packed[0],
        Argument.BIAS: packed[1],
        Argument.ZEROS: np.zeros(kernel.input_channels, np.float32),
        Argument.HEIGHT: h,
        Argument.WIDTH: w,
        Argument.OUTPUT_WIDTH: output_width,
    }
    return [Task(kernel, arguments, chunks)]
