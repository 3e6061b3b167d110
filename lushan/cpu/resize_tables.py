"""The tables that ``resize_kernel`` works with, for pictures of one size and one network.

A sum's weights are Pillow's, as whole numbers of 2⁻²², taken apart into three bytes. Along a row
they lie in groups of L, four for each channel; down a column in steps of four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import STEP
from lushan.cpu.resize_kernel import COLOURS, DIGITS, FRACTION_BITS, PIXEL, rows_together
from lushan.image.preprocess import Preprocessing
from lushan.image.resize import Box, Size, are_rows_first, inside_of
from lushan.image.taps import Taps, resampling
from lushan.record import record

Integers = NDArray[np.int64]
Digits = NDArray[np.int8]

# Of "lanczos" and "hamming" the last bit is a matter of the system's sine; "nearest" has no sums.
_INTERPOLATIONS = ("bilinear", "bicubic", "box")
_WIDEST = 1 << 16  # pixels: a table takes some 42 bytes for each pixel of a row


@record(eq=False)
class ResizeTables:
    """What the kernel reads besides pixels; the names are those of its arguments.

    ``rows`` of a picture of ``source_width`` are read; ``crop`` is what the network sees of the
    resized picture, ``inside`` the part of it that is picture.
    """

    source_width: int
    rows: range
    crop: Box
    inside: Box
    fill: NDArray[np.float32]  # [3], normalised
    starts: Integers
    across: Digits  # [WIDTH, GROUPS, 3, L, 4]
    tops: Integers
    down: Digits  # [HEIGHT, STEPS, 3, 4]
    constants: NDArray[np.float32]

    @property
    def bytes(self) -> int:
        """The memory of the tables."""
        return int(self.across.nbytes + self.down.nbytes)

    @property
    def row_bytes(self) -> int:
        """The bytes of a row between the two sums: whole vectors."""
        tile = STEP * int(self.across.shape[3])
        return -(-PIXEL * len(self.starts) // tile) * tile

    @property
    def middle_rows(self) -> int:
        """The rows between the two sums; the last sums may read beyond those that are made."""
        return max(len(self.rows), int(self.tops[-1] + STEP * self.down.shape[1]))

    def placed(self, made: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the kernel made, [HEIGHT, WIDTH, 3], with margins where the crop has some."""
        left, top, width, height = self.crop
        x, y, inner_width, inner_height = self.inside
        if (width, height) == (inner_width, inner_height):
            return made
        canvas = np.empty((height, width, COLOURS), np.float32)
        canvas[:] = self.fill
        x, y = x - left, y - top
        canvas[y : y + inner_height, x : x + inner_width] = made
        return canvas


def make_tables(size: Size, preprocessing: Preprocessing, lanes: int) -> ResizeTables | None:
    """Return the tables for pictures of ``size`` (width, height), None to leave them to Pillow."""
    placement, kind = preprocessing.place(size), preprocessing.interpolation
    resized, crop = placement.resized, placement.crop
    left, top, width, height = inside = inside_of(resized, crop)
    if kind not in _INTERPOLATIONS or resized == size or size[0] > _WIDEST or not width:
        return None
    if not are_rows_first(size, resized, crop):
        return None
    across = resampling(size[0], resized[0], left, width, kind)
    down = resampling(size[1], resized[1], top, height, kind)
    last = int(down.starts[-1]) + down.weights.shape[1]
    rows = range(int(down.starts[0]), min(last, size[1]))
    if -(-across.weights.shape[1] // lanes) * lanes > size[0] or len(rows) < rows_together(lanes):
        return None
    starts, groups = _across(across, size[0], lanes)
    constants = [(*preprocessing.mean, 0), (*preprocessing.std, 1)]
    return ResizeTables(
        source_width=size[0],
        rows=rows,
        crop=crop,
        inside=inside,
        fill=preprocessing.normalize(np.array(placement.fill, np.uint8)),
        starts=PIXEL * starts,
        across=groups,
        tops=down.starts - rows.start,
        down=_down(down),
        constants=np.tile(np.array(constants, np.float32), lanes // PIXEL),
    )


def _across(taps: Taps, source_width: int, lanes: int) -> tuple[Integers, Digits]:
    """Return the first pixel of each sum along a row, and the digits of its weights."""
    weights = _whole(taps)
    targets, count = weights.shape
    groups = -(-count // lanes)
    # Whole groups within the row: what they have too many lies before what is wanted.
    starts = np.minimum(taps.starts, source_width - groups * lanes)
    moved = np.zeros((targets, groups * lanes + count), np.int64)
    places = (taps.starts - starts)[:, None] + np.arange(count)
    np.put_along_axis(moved, places, weights, axis=1)
    digits = _digits(moved[:, : groups * lanes])  # a place beyond the row has no weight
    quads = digits.reshape(targets, DIGITS, groups, lanes // STEP, 1, STEP)
    quads = quads.transpose(0, 2, 1, 3, 4, 5).repeat(PIXEL, axis=4)
    return starts, np.ascontiguousarray(quads.reshape(targets, groups, DIGITS, lanes, STEP))


def _down(taps: Taps) -> Digits:
    """Return the digits of the weights of each sum down a column, in steps."""
    weights = _whole(taps)
    targets, count = weights.shape
    steps = -(-count // STEP)
    filled = np.zeros((targets, STEP * steps), np.int64)
    filled[:, :count] = weights
    digits = _digits(filled).reshape(targets, DIGITS, steps, STEP)
    return np.ascontiguousarray(digits.transpose(0, 2, 1, 3))


def _whole(taps: Taps) -> Integers:
    """Return weights as Pillow rounds them: each for itself, halves away from 0."""
    scaled = taps.weights * (1 << FRACTION_BITS)
    whole: Integers = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)
    return whole


def _digits(weights: Integers) -> Digits:
    """Return the digits of weights [targets, taps], the lowest first: [targets, 3, taps]."""
    targets, taps = weights.shape
    found = np.empty((targets, DIGITS, taps), np.int8)
    for number in range(DIGITS):
        low = (weights + 128) % 256 - 128
        found[:, number] = low
        weights = (weights - low) >> 8
    return found
