"""What a network sees of a raw frame: the definition, in NumPy.

In words: the frame as RGB with linearly interpolated chroma, resized and cropped as a picture would
be, normalised. But nothing of that size is made. Interpolating and resizing are weighted sums, so
they are one, and chroma is resized from the samples that are there; sums of Y′, Cb and Cr come
before the matrix that turns them into RGB, which is then applied to the pixels that remain.

To the last bit: of each plane, rows are summed first, with weights of 14 bits (``taps``); the sums
are rounded to 2⁻⁶ of a level, halves up. Bytes of a row are summed next; those sums, multiples of
2⁻²⁰, are exact integers until they become float32. Each colour is a sum of products in the order of
``TERMS`` plus an offset, cut to 0 … 255, times a factor, plus a shift: float32, each step rounded
by itself. Pillow rounds its sums to 8 bits; here nothing is rounded to 8 bits. Values that RGB
lacks, and what sharp filters overshoot, are cut once, at the end.

A fast engine gives the same bits: ``lushan.cpu.frame_input``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lushan.image.color import Range, Siting, Standard, scales
from lushan.image.frame import PACKED_STARTS, frame_format
from lushan.image.preprocess import Placement, Preprocessing
from lushan.image.raw_frame import GREY, RGB24, Frame
from lushan.image.resize import Box, inside_of
from lushan.image.taps import WEIGHT_BITS, Taps, of_half_samples, resampling, spread
from lushan.record import record

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MIDDLE_BITS = 6
"""Fraction bits that are kept between the two sums."""
DROPPED_BITS = WEIGHT_BITS - MIDDLE_BITS
TERMS = {
    "ycbcr": ((0, 2), (0, 1, 2), (0, 1)),
    "grey": ((0,), (0,), (0,)),
    "rgb": ((0,), (1,), (2,)),
}
"""Which channels make red, green and blue, in the order of the sum."""


@record(eq=False)
class Sums:
    """Whole-number taps: target t is Σₖ weights[t, k] · source[starts[t] + k], times 2¹⁴.

    starts: [targets]; weights: [targets, taps]. Taps of weight 0 may lie beyond the source.
    """

    starts: Integers
    weights: Integers

    def matrix(self, size: int) -> NDArray[np.float64]:
        """Return the taps as a matrix [targets, size], for a source of that size."""
        targets, taps = self.weights.shape
        places = np.minimum(self.starts[:, None] + np.arange(taps), size - 1)
        whole = np.zeros((targets, size))
        np.add.at(whole, (np.arange(targets)[:, None], places), self.weights)
        return whole


@record(eq=False)
class FramePlan:
    """How the frames of one kind become the input of one network.

    ``rows`` has the sums over rows for each plane, ``columns`` the plane of each channel and the
    sums over the bytes of its rows. ``coefficients`` [3, channels] and ``offsets`` [3] make levels
    (0 to 255) of colours; ``factors`` [3] and ``shifts`` [3] normalise them.
    """

    size: tuple[int, int]  # (height, width) of the network's input
    inside: Box  # (left, top, width, height) of what is computed; the rest is ``fill``
    fill: Floats  # [3], normalised
    colour: str  # which of TERMS
    rows: tuple[Sums, ...]
    columns: tuple[tuple[int, Sums], ...]
    coefficients: Floats
    offsets: Floats
    factors: Floats
    shifts: Floats

    def empty_input(self) -> Floats:
        """Return a new input [height, width, 3] whose margins are filled, and nothing else."""
        result = np.empty((*self.size, 3), np.float32)
        _, _, width, height = self.inside
        if (height, width) != self.size:
            result[...] = self.fill
        return result


def plan_frame(frame: Frame, preprocessing: Preprocessing) -> FramePlan:
    """Return the plan for frames like ``frame``; the plans of the last few kinds are remembered."""
    return _plan(
        frame.format,
        frame.width,
        frame.height,
        frame.standard,
        frame.value_range,
        frame.siting,
        preprocessing,
    )


def frame_input(frame: Frame, preprocessing: Preprocessing) -> Floats:
    """Return the input of the network for ``frame``: float32 [height, width, 3].

    Slow: this says what is meant.
    """
    plan = plan_frame(frame, preprocessing)
    # Products of float64 are exact here: all numbers are whole, and far below 2⁵³.
    middle = []
    for plane, rows in zip(frame.planes, plan.rows, strict=True):
        sums = rows.matrix(plane.shape[0]) @ plane.astype(np.float64)
        middle.append(np.floor(sums / 2**DROPPED_BITS + 0.5))
    channels = [
        (middle[plane] @ columns.matrix(middle[plane].shape[1]).T).astype(np.float32)
        for plane, columns in plan.columns
    ]
    result = plan.empty_input()
    left, top, width, height = plan.inside
    for colour, (first, *others) in enumerate(TERMS[plan.colour]):
        coefficients = plan.coefficients[colour]
        level = channels[first] * coefficients[first]
        for channel in others:
            level = level + channels[channel] * coefficients[channel]
        level = level + plan.offsets[colour]
        level = np.minimum(np.where(level > 0, level, np.float32(0)), np.float32(255))
        value = level * plan.factors[colour] + plan.shifts[colour]
        result[top : top + height, left : left + width, colour] = value
    return result


@lru_cache(maxsize=16)
def _plan(
    layout: str,
    width: int,
    height: int,
    standard: Standard,
    value_range: Range,
    siting: Siting,
    preprocessing: Preprocessing,
) -> FramePlan:
    placement = preprocessing.place((width, height))
    left, top, _, _ = placement.crop
    part = inside_of(placement.resized, placement.crop)
    rows, columns = _sums(layout, (width, height), placement, part, siting, preprocessing)
    colour = {GREY: "grey", RGB24: "rgb"}.get(layout, "ycbcr")
    coefficients, offsets = _levels(colour, standard, value_range)
    fill = preprocessing.normalize(np.array(placement.fill, np.uint8))
    std = np.array(preprocessing.std)
    return FramePlan(
        size=(preprocessing.height, preprocessing.width),
        inside=(part[0] - left, part[1] - top, part[2], part[3]),
        fill=fill,
        colour=colour,
        rows=rows,
        columns=columns,
        coefficients=coefficients.astype(np.float32),
        offsets=offsets.astype(np.float32),
        factors=(1 / (255 * std)).astype(np.float32),
        shifts=(-np.array(preprocessing.mean) / std).astype(np.float32),
    )


def _sums(
    layout: str,
    size: tuple[int, int],
    placement: Placement,
    part: Box,
    siting: Siting,
    preprocessing: Preprocessing,
) -> tuple[tuple[Sums, ...], tuple[tuple[int, Sums], ...]]:
    """Return the sums over rows of each plane, and over bytes of each channel, with its plane."""
    (width, height), (wide, high) = size, placement.resized
    kind = preprocessing.interpolation
    across = resampling(width, wide, part[0], part[2], kind) if part[2] else _NOTHING
    down = resampling(height, high, part[1], part[3], kind) if part[3] else _NOTHING
    if layout == GREY:
        return (_whole(down),), ((0, _whole(across)),)
    if layout == RGB24:
        return (_whole(down),), tuple((0, _whole(spread(across, 3, c))) for c in range(3))
    known = frame_format(layout)
    half_across, half_down = across, down
    if known.sampling != "4:4:4" and part[2]:
        half_across = of_half_samples(across, width, on_samples=siting == "left")
    if known.sampling == "4:2:0" and part[3]:
        half_down = of_half_samples(down, height, on_samples=False)
    if known.kind == "packed":
        y, cb, cr = PACKED_STARTS[layout]
        placed = (spread(across, 2, y), spread(half_across, 4, cb), spread(half_across, 4, cr))
        return (_whole(down),), tuple((0, _whole(taps)) for taps in placed)
    if known.kind == "semi-planar":
        chroma = (spread(half_across, 2, 0), spread(half_across, 2, 1))
        columns = ((0, _whole(across)), *((1, _whole(taps)) for taps in chroma))
        return (_whole(down), _whole(half_down)), columns
    columns = ((0, _whole(across)), (1, _whole(half_across)), (2, _whole(half_across)))
    return (_whole(down), _whole(half_down), _whole(half_down)), columns


_NOTHING = Taps(np.zeros(0, np.int64), np.zeros((0, 1)))


def _whole(taps: Taps) -> Sums:
    return Sums(taps.starts, taps.rounded())


def _levels(
    colour: str, standard: Standard, value_range: Range
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients [3, channels] and offsets [3]: sums → levels of red, green and blue."""
    unit = 2.0 ** -(WEIGHT_BITS + MIDDLE_BITS)
    if colour == "rgb":
        return np.eye(3) * unit, np.zeros(3)
    (luma_offset, luma_scale), (chroma_offset, chroma_scale) = scales(value_range)
    matrix = 255 * standard.to_rgb() / np.array([luma_scale, chroma_scale, chroma_scale])
    offsets = -(matrix @ np.array([luma_offset, chroma_offset, chroma_offset]))
    if colour == "grey":
        return matrix[:, :1] * unit, -matrix[:, 0] * luma_offset
    return matrix * unit, offsets
