"""Resampling as tables: which source samples make a target pixel on one axis, with what weights.

``resize`` lets Pillow resample RGB pictures. A camera's planes do not go through Pillow; here are
the same filters as numbers. A filter stretches with the scale where the picture shrinks, so that it
averages all it leaves out; it is cut at the edges, and its weights sum to 1. "Nearest" takes the
pixel under the target's centre.

The weights become whole numbers of 2⁻¹⁴, whose sums are the same in any order. They are rounded
such that each running sum is: the total stays 1, and neighbours make up for each other's rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lushan.record import record

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

WEIGHT_BITS = 14
ONE = 1 << WEIGHT_BITS
"""What a whole weight of 1 is as an integer."""


@record(eq=False)
class Taps:
    """Target pixel t is Σₖ weights[t, k] · source[starts[t] + k].

    starts: int64 [targets]; weights: float64 [targets, taps], rows that need fewer end in zeros,
    which may stand for samples beyond the source.
    """

    starts: Integers
    weights: Floats

    def rounded(self) -> Integers:
        """Return the weights as multiples of 2⁻¹⁴, [targets, taps]: rows that sum to 2¹⁴."""
        sums = np.rint(np.cumsum(self.weights, axis=1) * ONE).astype(np.int64)
        whole: Integers = np.diff(sums, axis=1, prepend=0)
        return whole


def _bilinear(x: Floats) -> Floats:
    values: Floats = np.maximum(1 - np.abs(x), 0)
    return values


def _bicubic(x: Floats) -> Floats:
    # Keys (1981) with a = −½.
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: Floats) -> Floats:
    values: Floats = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return values


def _box(x: Floats) -> Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _hamming(x: Floats) -> Floats:
    window = 0.54 + 0.46 * np.cos(np.pi * x)
    return np.where(np.abs(x) < 1, np.sinc(x) * window, 0)


# Each filter with how far it reaches from its centre, in pixels where nothing shrinks.
_FILTERS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "bilinear": (_bilinear, 1),
    "bicubic": (_bicubic, 2),
    "lanczos": (_lanczos, 3),
    "box": (_box, 0.5),
    "hamming": (_hamming, 1),
}


def resampling(source: int, resized: int, first: int, count: int, interpolation: str) -> Taps:
    """Return the taps of ``count`` pixels, from ``first`` on, of an axis resized as Pillow does.

    ``source`` and ``resized`` are the lengths of the axis, in pixels; ``interpolation`` is one of
    ``resize.INTERPOLATIONS``.
    """
    scale = source / resized
    centers = (np.arange(first, first + count) + 0.5) * scale
    if interpolation == "nearest":
        # Pillow steps from centre to centre, and its rounding decides where one falls on an edge.
        steps = np.full(first + count, scale)
        steps[0] = 0.5 * scale
        starts = np.minimum(np.cumsum(steps)[first:].astype(np.int64), source - 1)
        return Taps(starts, np.ones((count, 1)))
    function, support = _FILTERS[interpolation]
    stretch = max(scale, 1.0)
    reach = support * stretch
    # Pixels whose centres are within reach, to the nearest whole pixel.
    starts = np.maximum(np.floor(centers - reach + 0.5), 0).astype(np.int64)
    stops = np.minimum(np.floor(centers + reach + 0.5), source).astype(np.int64)
    places = starts[:, None] + np.arange((stops - starts).max())  # [targets, taps]
    # Step by step as Pillow computes them, to the last bit but for sine and cosine.
    weights = function((places - centers[:, None] + 0.5) * (1 / stretch))
    weights[places >= stops[:, None]] = 0
    return Taps(starts, weights / np.cumsum(weights, axis=1)[:, -1:])


def of_half_samples(taps: Taps, source: int, *, on_samples: bool) -> Taps:
    """Return ``taps`` of an axis as taps of the half as many samples it is interpolated from.

    The interpolation is that of ``color.upsample``: linear, edges repeat; ``on_samples`` says
    whether samples sit on the even pixels (else in the middle between two). ``source`` is the
    length of the axis in pixels; there are ⌈source / 2⌉ samples.
    """
    targets, count = taps.weights.shape
    pixels = taps.starts[:, None] + np.arange(count)
    here, odd = pixels >> 1, pixels & 1
    if on_samples:
        other, share = here + odd, 0.5 * odd
    else:
        other, share = here + 2 * odd - 1, np.full(pixels.shape, 0.25)
    last = (source + 1) // 2 - 1
    here, other = np.clip(here, 0, last), np.clip(other, 0, last)
    starts = np.minimum(here, other).min(axis=1)
    most = int((np.maximum(here, other).max(axis=1) - starts).max()) + 1
    weights = np.zeros((targets, most))
    rows = np.broadcast_to(np.arange(targets)[:, None], pixels.shape)
    np.add.at(weights, (rows, here - starts[:, None]), taps.weights * (1 - share))
    np.add.at(weights, (rows, other - starts[:, None]), taps.weights * share)
    return Taps(starts, weights)


def spread(taps: Taps, step: int, offset: int) -> Taps:
    """Return ``taps`` of samples that lie ``step`` apart, the first one at ``offset``.

    What lies between them gets the weight 0.
    """
    targets, count = taps.weights.shape
    weights = np.zeros((targets, (count - 1) * step + 1))
    weights[:, ::step] = taps.weights
    return Taps(taps.starts * step + offset, weights)
