"""Packing inside the program: for weights that change from run to run.

A weight that nothing updates is packed once (``packing``). One that a training step updates is
packed by tasks, before the step that reads it: for the convolution in panels of output channels,
and for its gradient by the input, which runs the other way, in panels of input channels. What a
panel has beyond its channels is zeros, written when the memory is reserved.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.packing import Argument as SquareArgument
from lushan.cpu.packing import PackingKernel
from lushan.cpu.rows import each_vector
from lushan.cpu.target import Target
from lushan.cpu.task import Task
from lushan.record import record

Array = NDArray[np.float32]


class TurningArgument(IntEnum):
    """The arguments of turning panels, by place; a chunk is an output channel."""

    SOURCE = 0
    PACKED = auto()
    TERMS = auto()  # of one output channel
    PANEL_CHANNELS = auto()  # NR


@record
class TurningKernel:
    """Spreads the terms of an output channel over its panel, [OC, T] → [OC/NR, T, NR]."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        nr, terms = e.argument(TurningArgument.PANEL_CHANNELS), e.argument(TurningArgument.TERMS)
        panel, channel = e.divide(e.chunk, nr)
        source = e.offset(e.absolute(TurningArgument.SOURCE), e.mul(e.chunk, terms))
        place = e.add(e.mul(panel, e.mul(terms, nr)), channel)
        packed = e.offset(e.absolute(TurningArgument.PACKED), place)

        def term(number: Value) -> None:
            value = e.builder.load(e.offset(source, number), align=4)
            e.builder.store(value, e.offset(packed, e.mul(number, nr)), align=4)

        e.loop(0, terms, term)
        return e.text()


class CopyingArgument(IntEnum):
    """The arguments of copying panels, by place; a chunk is an output channel."""

    SOURCE = 0
    PACKED = auto()
    OUTPUT_CHANNELS = auto()  # of the group
    INPUT_CHANNELS = auto()
    TAPS = auto()  # KH·KW
    BLOCKS = auto()
    BLOCK = auto()  # input channels of a block that are not at an end
    ROOM = auto()  # and the numbers that it takes
    LAST = auto()  # where a block starts at the latest


@record
class CopyingKernel:
    """Copies [OC, taps, IC] to [IC/NR, taps, OC, NR], the taps in reverse where ``flipped``."""

    flipped: bool

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a = CopyingArgument
        taps, channels = e.argument(a.TAPS), e.argument(a.INPUT_CHANNELS)
        outputs, room = e.argument(a.OUTPUT_CHANNELS), e.argument(a.ROOM)
        source = e.offset(e.absolute(a.SOURCE), e.mul(e.chunk, e.mul(taps, channels)))
        packed = e.offset(e.absolute(a.PACKED), e.mul(e.chunk, room))

        def tap(number: Value) -> None:
            there = e.sub(e.sub(taps, 1), number) if self.flipped else number

            def block(index: Value) -> None:
                start = e.lesser(e.mul(index, e.argument(a.BLOCK)), e.argument(a.LAST))
                length = e.lesser(e.argument(a.BLOCK), e.sub(channels, start))
                line = e.mul(e.add(e.mul(index, taps), there), outputs)
                each_vector(
                    e,
                    length,
                    [e.offset(source, e.add(e.mul(number, channels), start))],
                    e.offset(packed, e.mul(line, room)),
                    lambda vector: vector,
                )

            e.loop(0, e.argument(a.BLOCKS), block)

        e.loop(0, taps, tap)
        return e.text()


def pack_output_channels(weight: Array, packed: Array, target: Target) -> Task:
    """Return the task that packs weight [OC, …] into panels [OC/NR, …, NR].

    A bias [OC] packs into [OC/NR, NR]. Panels must be zero beyond the output channels.
    """
    oc, nr = len(weight), packed.shape[-1]
    terms = weight.size // oc
    if terms % target.lanes or oc % target.lanes:
        arguments: dict[IntEnum, int | Array] = {
            TurningArgument.SOURCE: weight,
            TurningArgument.PACKED: packed,
            TurningArgument.TERMS: terms,
            TurningArgument.PANEL_CHANNELS: nr,
        }
        return Task(TurningKernel(), arguments, oc)
    arguments = {
        SquareArgument.SOURCE: weight,
        SquareArgument.TARGET: packed,
        SquareArgument.SCALE: np.ones(oc, np.float32),
        SquareArgument.SOURCE_CHANNEL: terms,
        SquareArgument.TERMS: terms,
        SquareArgument.SPREAD: 1,
        SquareArgument.RUN: terms,
        SquareArgument.PANEL_CHANNELS: nr,
    }
    return Task(PackingKernel(), arguments, oc // target.lanes)


def pack_input_channels(
    weight: Array, packed: Array, *, flipped: bool, block: int, last: int | None = None
) -> Task:
    """Return the task that packs weight [OC, KH, KW, IC] into [blocks, KH, KW, OC, NR].

    A block has ``block`` input channels, fewer at the end; with ``last``, none starts after that
    channel, and all have as many. Panels must be zero beyond their channels.
    """
    oc, kh, kw, ic = weight.shape
    arguments: dict[IntEnum, int | Array] = {
        CopyingArgument.SOURCE: weight,
        CopyingArgument.PACKED: packed,
        CopyingArgument.OUTPUT_CHANNELS: oc,
        CopyingArgument.INPUT_CHANNELS: ic,
        CopyingArgument.TAPS: kh * kw,
        CopyingArgument.BLOCKS: packed.shape[0],
        CopyingArgument.BLOCK: block,
        CopyingArgument.ROOM: packed.shape[-1],
        CopyingArgument.LAST: ic if last is None else last,
    }
    return Task(CopyingKernel(flipped), arguments, oc)
