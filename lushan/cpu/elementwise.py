"""Numbers that depend only on the same place of one or two planes: what such kernels share.

Activations, the residual sum, batch normalisation and copying walk alike: row by row, and within
a row vector by vector, without a look at pixels or channels. Where each channel has parameters of
its own they go pixel by pixel. An output may be one of the inputs, in the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.rows import (
    Piece,
    each_group,
    each_row,
    each_vector,
    plane_arguments,
    row_arguments,
    row_pointer,
)
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel, Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    Y = 0  # and Y + 1
    X = 2  # and X + 1
    SECOND = 4  # and SECOND + 1: the other input, where there are two
    Y_ROW = 6
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    SECOND_ROW = auto()
    SECOND_IMAGE = auto()
    ROWS = auto()
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()
    LENGTH = auto()  # numbers of a row
    WIDTH = auto()  # pixels of a row
    FIRST_PARAMETER = auto()  # [C] each
    SECOND_PARAMETER = auto()


_INPUTS = (Argument.X, Argument.SECOND)
_PARAMETERS = (Argument.FIRST_PARAMETER, Argument.SECOND_PARAMETER)


def emit_elementwise(name: str, target: Target, inputs: int, function: Callable[..., Value]) -> str:
    """Return a kernel: y = function(e, x) or, with two ``inputs``, function(e, x, second)."""
    e = KernelEmitter(name, target)
    length = e.argument(Argument.LENGTH)

    def row(image: Value, y: Value) -> None:
        sources = [row_pointer(e, Argument, slot.name, image, y) for slot in _INPUTS[:inputs]]
        each_vector(
            e,
            length,
            sources,
            row_pointer(e, Argument, "Y", image, y),
            lambda *loaded: function(e, *loaded),
        )

    each_row(e, Argument, row)
    return e.text()


def emit_channelwise(
    name: str, target: Target, channels: int, parameters: int, function: Callable[..., Value]
) -> str:
    """Return a kernel: y = function(e, x, p, …) with one or two ``parameters`` of each channel."""
    return _emit_channelwise(name, target, channels, (1, parameters), function)


def emit_channelwise_pairs(
    name: str, target: Target, channels: int, function: Callable[..., Value]
) -> str:
    """Return a kernel: y = function(e, x, second, p) with a parameter p of each channel."""
    return _emit_channelwise(name, target, channels, (2, 1), function)


def _emit_channelwise(
    name: str,
    target: Target,
    channels: int,
    counts: tuple[int, int],
    function: Callable[..., Value],
) -> str:
    """Return such a kernel for so many (inputs, parameters)."""
    e = KernelEmitter(name, target)
    inputs, parameters = counts
    width = e.argument(Argument.WIDTH)
    values = [e.absolute(slot) for slot in _PARAMETERS[:parameters]]

    def row(image: Value, y: Value) -> None:
        rows = [row_pointer(e, Argument, slot.name, image, y) for slot in _INPUTS[:inputs]]
        y_row = row_pointer(e, Argument, "Y", image, y)

        def pixel(place: Value) -> None:
            start = e.mul(place, channels)

            def group(first: Value, pieces: Sequence[Piece]) -> None:
                place = e.add(start, first)
                results = [
                    function(
                        e,
                        *(e.load(line, e.add(place, at), lanes=used) for line in rows),
                        *(e.load(value, e.add(first, at), lanes=used) for value in values),
                    )
                    for at, used in pieces
                ]
                for (at, used), result in zip(pieces, results, strict=True):
                    e.store(result, y_row, e.add(place, at), lanes=used)

            each_group(e, channels, CHANNEL_VECTORS, group)

        e.loop(0, width, pixel)

    each_row(e, Argument, row)
    return e.text()


def elementwise_task(
    kernel: Kernel,
    inputs: Sequence[Plane],
    y: Plane,
    parameters: Sequence[NDArray[np.float32]] = (),
) -> Task:
    """Return the task of a kernel of this file for planes of one shape."""
    _, _, w, c = y.shape
    named = dict(zip((slot.name for slot in _INPUTS), inputs, strict=False))
    cut, chunks = row_arguments(Argument, y, (len(inputs) + 1) * w * c)
    arguments: dict[IntEnum, task.Argument] = {
        **plane_arguments(Argument, Y=y, **named),
        **cut,
        **dict(zip(_PARAMETERS, parameters, strict=False)),
        Argument.LENGTH: w * c,
        Argument.WIDTH: w,
    }
    return Task(kernel, arguments, chunks)
