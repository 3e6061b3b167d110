"""Winograd's weights inside the program: for a convolution whose weight changes from run to run.

As ``winograd_packing``, number for number, but by tasks of the step that reads them, into a plane
that lives as long as the step: [OC/NR, P, IC, NR] for the convolution. For its gradient by the
input, which runs the other way, [IC/NR, P, OC, NR] of the kernel turned round. The squares of the P
numbers lie a little apart: a power of two between them would put all P into one set of the caches.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.emit import F32, KernelEmitter, Value
from lushan.cpu.packing import transpose
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.winograd_packing import transform_taps
from lushan.cpu.winograd_tiles import store_points
from lushan.cpu.winograd_tiling import WINOGRAD_SKEW, choose_winograd_vectors, winograd_products
from lushan.cpu.winograd_transform import TAPS
from lushan.record import record

_WINDOW = TAPS * TAPS


class Argument(IntEnum):
    """The arguments of both kernels, by place; a chunk is a vector of output channels."""

    PACKED = 0  # and PACKED + 1
    SOURCE = 2  # weight [OC, 3, 3, IC]
    INPUT_CHANNELS = auto()
    PANEL_CHANNELS = auto()  # NR
    POINT = auto()  # from one of the P numbers to the next
    PANEL = auto()  # from one panel to the next


@record
class OutputPanelsKernel:
    """Into panels of output channels. Squares of L by L channels are turned round, tap by tap."""

    outputs: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, lanes = Argument, target.lanes
        channels, nr = e.argument(a.INPUT_CHANNELS), e.argument(a.PANEL_CHANNELS)
        turned = e.scratch(F32)  # [9, L of IC, L of OC]
        first = e.mul(e.chunk, lanes)
        source = e.offset(e.absolute(a.SOURCE), e.mul(first, e.mul(channels, _WINDOW)))
        panel, channel = e.divide(first, nr)
        packed = e.offset(e.pointer(a.PACKED), e.add(e.mul(panel, e.argument(a.PANEL)), channel))

        def square(start: Value) -> None:
            def turn(tap: Value) -> None:
                place = e.add(e.mul(tap, channels), start)
                step = e.mul(channels, _WINDOW)
                rows = [e.load(source, e.add(place, e.mul(step, row))) for row in range(lanes)]
                out = e.offset(turned, e.mul(tap, lanes * lanes))
                for column, vector in enumerate(transpose(e, rows)):
                    e.store(vector, out, column * lanes)

            def term(number: Value) -> None:
                taps = [
                    e.load(turned, e.add(e.mul(number, lanes), tap * lanes * lanes))
                    for tap in range(_WINDOW)
                ]
                out = e.offset(packed, e.mul(e.add(start, number), nr))
                store_points(e, transform_taps(e, taps, self.outputs), out, e.argument(a.POINT))

            e.loop(0, _WINDOW, turn)
            e.loop(0, lanes, term)

        e.loop(0, channels, square, step=lanes)
        return e.text()


@record
class InputPanelsKernel:
    """Into panels of input channels, the kernel turned round."""

    outputs: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        a, lanes = Argument, target.lanes
        channels, nr = e.argument(a.INPUT_CHANNELS), e.argument(a.PANEL_CHANNELS)
        first = e.mul(e.chunk, lanes)
        source, packed = e.absolute(a.SOURCE), e.pointer(a.PACKED)

        def vector(start: Value) -> None:
            panel, channel = e.divide(start, nr)
            place = e.add(e.mul(panel, e.argument(a.PANEL)), channel)

            def row(number: Value) -> None:
                term = e.add(first, number)
                here = e.offset(source, e.add(e.mul(term, e.mul(channels, _WINDOW)), start))
                taps = [e.load(here, e.mul(channels, tap)) for tap in reversed(range(_WINDOW))]
                out = e.offset(packed, e.add(place, e.mul(term, nr)))
                store_points(e, transform_taps(e, taps, self.outputs), out, e.argument(a.POINT))

            e.loop(0, lanes, row)

        e.loop(0, channels, vector, step=lanes)
        return e.text()


def pack_winograd_weights(
    weight: NDArray[np.float32], outputs: int, target: Target, *, name: str, backward: bool = False
) -> tuple[Task, Plane]:
    """Return the task that transforms weight [OC, 3, 3, IC] for tiles of so many outputs.

    And the plane that it writes, called ``name``: for the convolution, or ``backward`` for its
    gradient by the input. Both numbers of channels must fill vectors.
    """
    oc, _, _, ic = weight.shape
    terms, channels = (oc, ic) if backward else (ic, oc)
    nr = choose_winograd_vectors(channels, target) * target.lanes
    point = terms * nr + WINOGRAD_SKEW
    panel = winograd_products(outputs) * point
    packed = Plane(name, (1, 1, channels // nr, panel))
    kernel = InputPanelsKernel(outputs) if backward else OutputPanelsKernel(outputs)
    arguments: dict[IntEnum, task.Argument] = {
        Argument.PACKED: packed.at(),
        Argument.SOURCE: weight,
        Argument.INPUT_CHANNELS: ic,
        Argument.PANEL_CHANNELS: nr,
        Argument.POINT: point,
        Argument.PANEL: panel,
    }
    scratch = 0 if backward else FLOAT * _WINDOW * target.lanes**2
    return Task(kernel, arguments, oc // target.lanes, scratch=scratch), packed
