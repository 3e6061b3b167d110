"""How often which numbers occurred, in bounded memory however many there are.

The bins are equally wide and lie on both sides of 0. When a number falls outside, the width doubles
as often as needed and pairs of bins become one, which is exact because every width is a power of
two. So one pass over the pictures is enough, and the order of the numbers does not matter.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BINS = 1 << 12  # on each side of 0: at least 2048 for the largest number, 8 for each of 255 steps
_NARROWEST = -160  # 2**-160 is below the smallest number of float32 / BINS


class Histogram:
    """Counts of finite float32 numbers, with the exact least and greatest.

    ``counts`` are int64 [2 * BINS]; bin i holds the numbers from (i - BINS) * width on.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS, np.int64)
        self.width = 2.0**_NARROWEST
        self.low = math.inf
        self.high = -math.inf

    def add(self, numbers: npt.NDArray[np.float32]) -> bool:
        """Count all of ``numbers``; return False, and count none, if one is NaN or infinite."""
        low, high = float(numbers.min()), float(numbers.max())  # a NaN is its own minimum
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        # Dividing by a power of two is exact, so a number never slips into the next bin.
        scaled = numbers.reshape(-1).astype(np.float64) * (1 / self.width)
        bins = np.floor(scaled).astype(np.intp) + BINS
        self.counts += np.bincount(bins, minlength=2 * BINS)
        return True

    def centers(self) -> npt.NDArray[np.float64]:
        """Return the middle of each bin."""
        middles = (np.arange(2 * BINS) - BINS + 0.5) * self.width
        return middles.astype(np.float64)

    def _widen(self, largest: float) -> None:
        """Make the bins wide enough for numbers of at most ``largest``, which may be negative."""
        if largest < self.width * BINS:
            return
        _, exponent = math.frexp(largest / BINS)  # largest < 2**exponent * BINS
        shift = min(exponent - round(math.log2(self.width)), 62)  # all that an integer shifts
        merged = np.zeros_like(self.counts)
        places = (np.arange(2 * BINS) - BINS >> shift) + BINS  # the floor, below 0 as well
        np.add.at(merged, places, self.counts)
        self.counts, self.width = merged, math.ldexp(1.0, exponent)
