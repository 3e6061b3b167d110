"""Drawings of what explanations found: a heat map over the picture, a pattern, a feature map.

The colours are data: ``HEAT`` goes from dark to bright and never back, so that it reads in grey
too, and to people who see few colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]
Numbers = npt.NDArray[np.floating]

# Red, green and blue at equal distances, lightness growing from end to end.
HEAT: tuple[tuple[int, int, int], ...] = (
    (12, 14, 48),
    (56, 20, 110),
    (122, 24, 128),
    (188, 42, 96),
    (232, 84, 48),
    (250, 148, 36),
    (252, 210, 88),
    (255, 250, 210),
)
_LUMA = (0.299, 0.587, 0.114)  # BT.601
_STRONGEST = 0.8  # how much of a pixel is the heat's colour, where that is greatest


def colours(values: Numbers, scale: Sequence[tuple[int, int, int]] = HEAT) -> Pixels:
    """Return the colour of each value between 0 and 1, uint8 [..., 3]; beyond counts as the end."""
    table = np.asarray(scale, np.float64)
    places = np.linspace(0, 1, len(table))
    mixed = [np.interp(values, places, table[:, part]) for part in range(3)]
    result: Pixels = np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)
    return result


def heat_map(pixels: Pixels, heat: Numbers, *, least: int = 256) -> Pixels:
    """Return a picture [H, W, 3] in grey with ``heat`` [h, w] over it in colour.

    The map is stretched over the picture. Its greatest number gets the brightest colour; 0 and
    below, which speaks against, the darkest. The result is enlarged to ``least`` pixels or more,
    by a whole factor.
    """
    large = enlarge(pixels, least)
    height, width = large.shape[:2]
    positive = _proportions(np.maximum(heat, 0))
    image = Image.fromarray(positive.astype(np.float32))
    stretched = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    share = np.clip(stretched, 0, 1)
    luma = large.astype(np.float64) @ np.asarray(_LUMA)
    strength = (_STRONGEST * np.sqrt(share))[..., None]
    mixed = (1 - strength) * luma[..., None] + strength * colours(share)
    result: Pixels = np.rint(mixed).astype(np.uint8)
    return result


def pattern_picture(pattern: Numbers, *, least: int = 256) -> Pixels:
    """Return a pattern [H, W, 3] as a picture: 0 is the middle grey, lighter is more.

    One scale for all channels, so that colours keep their proportions. The few greatest numbers,
    one in a thousand, may run off it.
    """
    sizes = np.abs(pattern)
    most = float(np.quantile(sizes, 0.999)) or float(sizes.max(initial=0))
    shares = pattern / most if most > 0 else np.zeros(pattern.shape)
    picture = np.rint(127.5 + 127.5 * np.clip(shares, -1, 1)).astype(np.uint8)
    return enlarge(picture, least)


def map_picture(values: Numbers, *, least: int = 256) -> Pixels:
    """Return a feature map [H, W] in colours, from its least to its greatest number."""
    return enlarge(colours(_proportions(values - values.min())), least)


def enlarge(pixels: Pixels, least: int) -> Pixels:
    """Return pixels [H, W, 3] repeated until the shorter side has ``least`` or more."""
    factor = max(1, -(-least // min(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _proportions(values: Numbers) -> npt.NDArray[np.float64]:
    """Return values at or above 0 as parts of the greatest, 0 where there is none."""
    most = float(values.max(initial=0))
    shares: npt.NDArray[np.float64] = values.astype(np.float64)
    return shares / most if most > 0 else np.zeros(values.shape)
