"""From a histogram to the range that 256 bytes shall cover.

A wide range clips nothing and has coarse steps; a narrow one has fine steps and clips what is
outside. Three ways to choose:

    minmax      everything that occurred: no clipping
    percentile  all but one in a hundred thousand numbers at each end
    mse         the range with the least mean square of rounding and clipping together

0 is part of every range. Source of the idea of all three: Krishnamoorthi 2018, "Quantizing deep
convolutional networks for efficient inference"; Banner et al. 2019 for the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.quantization.histogram import BINS, Histogram
from lushan.reference.quantization import HIGHEST

Range: TypeAlias = tuple[float, float]
_OUTSIDE = 1e-5  # the part of the numbers that a percentile leaves out at each end
_TRIED = np.geomspace(0.01, 1, 97)  # parts of the whole range that mse tries: 5 % steps
_FINER = np.linspace(0.9, 1.1, 41)  # parts of the best of them


def minmax(histogram: Histogram) -> Range:
    """Return the least and the greatest number."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """Return the range that leaves out one in a hundred thousand at each end."""
    below = np.cumsum(histogram.counts)
    outside = _OUTSIDE * below[-1]
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, below[-1] - outside, side="left"))
    low, high = (first - BINS) * histogram.width, (last + 1 - BINS) * histogram.width
    return max(low, histogram.low), min(high, histogram.high)


def mse(histogram: Histogram) -> Range:
    """Return the range whose bytes have the least mean square error."""
    used = np.flatnonzero(histogram.counts)
    numbers, counts = histogram.centers()[used], histogram.counts[used].astype(np.float64)
    # The outer bins reach beyond what occurred.
    numbers = numbers.clip(histogram.low, histogram.high)
    low, high = min(0.0, histogram.low), max(0.0, histogram.high)

    def best(candidates: list[Range]) -> Range:
        return min(candidates, key=lambda ends: _square_error(numbers, counts, *ends))

    # Both ends together, then each on its own: clipping one side may not pay on the other.
    bottom, top = best([(low * part, high * part) for part in _TRIED])
    for parts in (_TRIED, _FINER):
        from_low, from_high = (low, high) if parts is _TRIED else (bottom, top)
        lower = [max(low, from_low * part) for part in parts]
        bottom, top = best([(bottom, top), *((end, top) for end in lower)])
        upper = [min(high, from_high * part) for part in parts]
        bottom, top = best([(bottom, top), *((bottom, end) for end in upper)])
    return bottom, top


def _square_error(
    numbers: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], low: float, high: float
) -> float:
    """Return the sum of square errors of ``numbers`` as bytes from ``low`` to ``high``."""
    scale = (high - low) / HIGHEST
    if scale == 0:
        return float(counts @ np.square(numbers))
    zero_point = round(-low / scale)
    rounded = (np.rint(numbers / scale) + zero_point).clip(0, HIGHEST)
    return float(counts @ np.square((rounded - zero_point) * scale - numbers))


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
}
