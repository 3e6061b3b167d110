"""Makes a network's input of a decoded picture with the kernel of ``resize_kernel``.

The meaning, to the last bit, is ``Preprocessing``: resize by Pillow, crop, normalise. Here only
what the crop keeps is computed. Pillow does what the kernel is not for: pictures that it does not
hand out, filters with a sine or none, sizes that stay as they are, very small ones, tall shapes.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import STEP
from lushan.cpu.code import CodeStore, code_store
from lushan.cpu.locks import Locked
from lushan.cpu.resize_kernel import (
    COLOURS,
    DIGITS,
    FRACTION_BITS,
    PIXEL,
    Argument,
    ResizeKernel,
)
from lushan.cpu.target import Target, detect
from lushan.image.pillow_memory import rgb_pieces
from lushan.image.preprocess import Placement, Preprocessing
from lushan.image.resize import Box, Size, are_rows_first, inside_of
from lushan.image.taps import resampling
from lushan.record import record

if TYPE_CHECKING:
    from PIL import Image

    from lushan.image.decode import Picture

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_SIZES_KEPT = 64  # sizes of pictures whose tables are remembered, some ten kilobytes each
_INTERPOLATIONS = ("bilinear", "bicubic", "box")


class PictureReader(Locked):
    """Makes the inputs of one network, bit for bit as its ``Preprocessing`` does.

    Several threads may call it at once; a call runs on its own thread.
    """

    def __init__(self, preprocessing: Preprocessing, target: Target | None = None) -> None:
        super().__init__()
        self._preprocessing = preprocessing
        self._target = target or detect()
        self._store: CodeStore = code_store(self._target)
        kernel = ResizeKernel()
        self._function = _PROTOTYPE(self._store.addresses([kernel])[kernel])
        self._tables: OrderedDict[Size, _Tables | None] = OrderedDict()

    def __call__(self, picture: Picture) -> Floats:
        """Return the input of the network for ``picture``: float32 [height, width, 3]."""
        tables = self._tables_for(picture.image.size)
        result = None if tables is None else tables.input_of(picture.image, self._function)
        return self._preprocessing(picture) if result is None else result

    def _tables_for(self, size: Size) -> _Tables | None:
        """Return the tables for pictures of ``size``, None where Pillow resizes them."""
        with self._lock:
            if size in self._tables:
                self._tables.move_to_end(size)
                return self._tables[size]
        tables = _tables(size, self._preprocessing, self._target.lanes)
        with self._lock:
            self._tables[size] = tables
            while len(self._tables) > _SIZES_KEPT:
                self._tables.popitem(last=False)
        return tables


@record(eq=False)
class _Axis:
    """Sums along one axis: target t is Σₖ weights[t, k] · source[starts[t] + k], times 2²²."""

    starts: Integers
    weights: Integers

    def digits(self, taps: int) -> NDArray[np.int8]:
        """Return the digits of so many weights of each target, [targets, 3, taps]."""
        rest = np.zeros((len(self.starts), taps), np.int64)
        rest[:, : self.weights.shape[1]] = self.weights
        found = np.empty((len(self.starts), DIGITS, taps), np.int8)
        for number in range(DIGITS):
            low = (rest + 128) % 256 - 128
            found[:, number] = low
            rest = (rest - low) >> 8
        return found


def _axis(source: int, resized: int, first: int, count: int, interpolation: str) -> _Axis:
    taps = resampling(source, resized, first, count, interpolation)
    # As Pillow rounds them: each for itself, halves away from 0.
    scaled = taps.weights * (1 << FRACTION_BITS)
    return _Axis(taps.starts, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64))


def _tables(size: Size, preprocessing: Preprocessing, lanes: int) -> _Tables | None:
    placement = preprocessing.place(size)
    (width, height), kind = placement.resized, preprocessing.interpolation
    left, top, inner_width, inner_height = inside = inside_of(placement.resized, placement.crop)
    if kind not in _INTERPOLATIONS or placement.resized == size or not inner_width:
        return None
    if not are_rows_first(size, placement.resized, placement.crop):
        return None
    across = _axis(size[0], width, left, inner_width, kind)
    groups = -(-across.weights.shape[1] // lanes)
    down = _axis(size[1], height, top, inner_height, kind)
    last = int(down.starts[-1]) + down.weights.shape[1]
    rows = range(int(down.starts[0]), min(last, size[1]))
    if groups * lanes > size[0] or len(rows) < lanes // STEP:
        return None
    return _Tables(preprocessing, placement, inside, across, down, rows, size[0], lanes)


class _Tables:
    """All that the kernel needs for pictures of one size but where they lie."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        placement: Placement,
        inside: Box,
        across: _Axis,
        down: _Axis,
        rows: range,
        source_width: int,
        lanes: int,
    ) -> None:
        self._fill = preprocessing.normalize(np.array(placement.fill, np.uint8))
        constants = [(*preprocessing.mean, 0), (*preprocessing.std, 1)]
        self._constants = np.tile(np.array(constants, np.float32), lanes // PIXEL)
        self._placement = placement
        self._inside = inside
        self._rows = rows
        self._least_rows = lanes // STEP
        groups = -(-across.weights.shape[1] // lanes)
        steps = -(-down.weights.shape[1] // STEP)
        taps = groups * lanes
        # Whole groups within the row: what they have too many lies before what is wanted.
        starts = np.minimum(across.starts, source_width - taps)
        moved = np.zeros((len(starts), taps + across.weights.shape[1]), np.int64)
        places = (across.starts - starts)[:, None] + np.arange(across.weights.shape[1])
        np.put_along_axis(moved, places, across.weights, axis=1)
        moved = moved[:, :taps]  # a place beyond the row has no weight
        digits = _Axis(starts, moved).digits(taps)  # [targets, 3, taps]
        quads = digits.reshape(len(starts), DIGITS, groups, lanes // STEP, 1, STEP)
        quads = quads.transpose(0, 2, 1, 3, 4, 5).repeat(PIXEL, axis=4)
        self._starts = starts * PIXEL
        self._across = np.ascontiguousarray(quads)
        self._tops = down.starts - rows.start
        down_digits = down.digits(steps * STEP).reshape(len(self._tops), DIGITS, steps, STEP)
        self._down = np.ascontiguousarray(down_digits.transpose(0, 2, 1, 3))
        tile = STEP * lanes
        self._row_bytes = -(-PIXEL * len(starts) // tile) * tile
        # A last step may read beyond the rows, with weights of 0.
        last = int(self._tops[-1]) + steps * STEP
        self._middle_rows = max(last, len(rows))
        self._arguments = np.zeros(len(Argument), np.int64)
        for which, value in (
            (Argument.SOURCE_ROW, PIXEL * source_width),
            (Argument.WIDTH, len(starts)),
            (Argument.STARTS, self._starts.ctypes.data),
            (Argument.ACROSS, self._across.ctypes.data),
            (Argument.GROUPS, groups),
            (Argument.MIDDLE_ROW, self._row_bytes),
            (Argument.TOPS, self._tops.ctypes.data),
            (Argument.DOWN, self._down.ctypes.data),
            (Argument.STEPS, steps),
            (Argument.CONSTANTS, self._constants.ctypes.data),
        ):
            self._arguments[which] = value

    def input_of(self, image: Image.Image, function: Callable[..., None]) -> Floats | None:
        """Return the input for a picture, float32 [height, width, 3], None if it is not lent."""
        height, width = len(self._tops), len(self._starts)
        middle = np.empty((self._middle_rows + 1, self._row_bytes), np.uint8)
        size = COLOURS * height * width
        result = np.empty(size + self._constants.size, np.float32)
        arguments = self._arguments.copy()
        arguments[Argument.MIDDLE] = middle.ctypes.data
        arguments[Argument.LINE] = middle[-1].ctypes.data
        arguments[Argument.RESULT] = result.ctypes.data
        for first, pixels in rgb_pieces(image, self._rows, self._least_rows):
            if pixels is None:
                return None
            arguments[Argument.SOURCE] = pixels.ctypes.data
            arguments[Argument.ROWS] = len(pixels)
            arguments[Argument.FIRST] = first - self._rows.start
            function(None, arguments.ctypes.data, 0)
        arguments[Argument.ROWS] = 0
        arguments[Argument.HEIGHT] = height
        function(None, arguments.ctypes.data, 0)
        made = result[:size].reshape(height, width, COLOURS)
        left, top, wide, high = self._placement.crop
        if (wide, high) == (width, height):
            return made
        canvas = np.empty((high, wide, COLOURS), np.float32)
        canvas[:] = self._fill
        x, y, _, _ = self._inside
        canvas[y - top : y - top + height, x - left : x - left + width] = made
        return canvas
