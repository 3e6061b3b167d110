"""RGB ↔ Y′CbCr: brightness apart from colour, as television, video and JPEG keep pictures.

Y′ (luma) is a weighted sum of R′, G′ and B′; Cb and Cr are the differences B′ − Y′ and R′ − Y′,
scaled. They are colour *differences*, not hue and saturation. Everything follows from two numbers
of a standard, the weights of red and blue in Y′. Chroma can be stored with fewer samples than
luma, because eyes see it less sharply: 4:2:2 halves it across, 4:2:0 also down. What colours R, G
and B themselves are (gamma, primaries) is not converted here; how frames of planes lie in memory
is in ``frame``.

8-bit values are computed in float64, channel by channel in a fixed order, and rounded to nearest,
halves up: the same on every machine.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lushan.errors import UsageError
from lushan.record import record

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

Range = Literal["full", "limited"]
"""Which 8-bit values are used. ``"full"``, JPEG: Y′ 0–255, Cb and Cr 128 ± 127.5 (cut at 255).
``"limited"``, video: Y′ 16–235, Cb and Cr 16–240 around 128."""

Sampling = Literal["4:4:4", "4:2:2", "4:2:0"]

Siting = Literal["left", "center"]
"""Where the remaining chroma samples of 4:2:2 and 4:2:0 sit across: ``"left"``, on the even luma
columns (MPEG-2, H.264 and raw video frames by default), or ``"center"``, in the middle between
two columns (JPEG, MPEG-1). Down, those of 4:2:0 sit in the middle between two rows in both."""


@record
class Standard:
    """The weights of red and blue in luma; green has the rest."""

    name: str
    red: float
    blue: float

    @property
    def green(self) -> float:
        """Return the weight of green."""
        return 1 - self.red - self.blue

    def to_ycbcr(self) -> Floats:
        """Return the matrix [3, 3]: R′G′B′ (0 to 1) → Y′ (0 to 1), Cb and Cr (−½ to ½)."""
        luma = np.array([self.red, self.green, self.blue])
        blue_difference = (np.array([0, 0, 1]) - luma) / (2 * (1 - self.blue))
        red_difference = (np.array([1, 0, 0]) - luma) / (2 * (1 - self.red))
        return np.stack([luma, blue_difference, red_difference])

    def to_rgb(self) -> Floats:
        """Return the inverse of ``to_ycbcr``, [3, 3]: R′ and B′ from the differences, then G′."""
        red_from_cr, blue_from_cb = 2 * (1 - self.red), 2 * (1 - self.blue)
        green_from_cb = -self.blue * blue_from_cb / self.green
        green_from_cr = -self.red * red_from_cr / self.green
        return np.array(
            [[1, 0, red_from_cr], [1, green_from_cb, green_from_cr], [1, blue_from_cb, 0]]
        )


BT601 = Standard("BT.601", red=0.299, blue=0.114)
"""Standard-definition television and JPEG (ITU-R BT.601-7, 2.5.1)."""
BT709 = Standard("BT.709", red=0.2126, blue=0.0722)
"""High-definition television (ITU-R BT.709-6, 3.2)."""

# (offset, scale) of luma and of chroma in 8 bits
_SCALES = {"full": ((0, 255), (128, 255)), "limited": ((16, 219), (128, 224))}


def rgb_to_ycbcr_float(rgb: Floats, standard: Standard = BT601) -> Floats:
    """Return Y′ (0 to 1), Cb and Cr (−½ to ½) [..., 3] of R′G′B′ (0 to 1) [..., 3]."""
    return _apply(standard.to_ycbcr(), rgb)


def ycbcr_to_rgb_float(ycbcr: Floats, standard: Standard = BT601) -> Floats:
    """Return R′G′B′ [..., 3] of Y′CbCr [..., 3]: 0 to 1 for colours that RGB has; not clipped."""
    return _apply(standard.to_rgb(), ycbcr)


def rgb_to_ycbcr(rgb: Bytes, standard: Standard = BT601, value_range: Range = "full") -> Bytes:
    """Return 8-bit Y′, Cb, Cr [..., 3] of 8-bit R′G′B′ [..., 3]. The defaults are JPEG's."""
    ycbcr = rgb_to_ycbcr_float(_checked(rgb) / 255, standard)
    (luma_offset, luma_scale), (chroma_offset, chroma_scale) = scales(value_range)
    ycbcr[..., 0] = ycbcr[..., 0] * luma_scale + luma_offset
    ycbcr[..., 1:] = ycbcr[..., 1:] * chroma_scale + chroma_offset
    return _round(ycbcr)


def ycbcr_to_rgb(ycbcr: Bytes, standard: Standard = BT601, value_range: Range = "full") -> Bytes:
    """Return 8-bit R′G′B′ [..., 3] of 8-bit Y′, Cb, Cr [..., 3]; what RGB lacks is clipped."""
    (luma_offset, luma_scale), (chroma_offset, chroma_scale) = scales(value_range)
    values = _checked(ycbcr).astype(np.float64)
    values[..., 0] = (values[..., 0] - luma_offset) / luma_scale
    values[..., 1:] = (values[..., 1:] - chroma_offset) / chroma_scale
    return _round(ycbcr_to_rgb_float(values, standard) * 255)


def scales(value_range: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (offset, scale) of luma and of chroma in 8 bits; raise ``UsageError``."""
    if value_range not in _SCALES:
        raise UsageError(
            'the range must be "full" or "limited", it is {value}', value=repr(value_range)
        )
    return _SCALES[value_range]


def luma_only(ycbcr: Bytes) -> Bytes:
    """Return [..., 3] with the luma kept and no colour (Cb = Cr = 128): the outline stays."""
    result: Bytes = _checked(ycbcr).copy()
    result[..., 1:] = 128
    return result


def chroma_only(ycbcr: Bytes) -> Bytes:
    """Return [..., 3] with the colours kept and one middling luma (128): the outline is lost."""
    result: Bytes = _checked(ycbcr).copy()
    result[..., 0] = 128
    return result


def chroma_size(width: int, height: int, sampling: Sampling) -> tuple[int, int]:
    """Return (width, height) of a chroma plane; odd sizes round up."""
    across, down = _halvings(sampling)
    return (width + across) >> across, (height + down) >> down


def subsample(plane: Bytes, sampling: Sampling, siting: Siting = "left") -> Bytes:
    """Return the samples [h, w] (``chroma_size``) of a chroma plane [H, W] that are kept.

    A sample in the middle is the mean of its two neighbours; one on a column is that column with
    a quarter of each neighbour. Edges repeat. Means are rounded once, halves up.
    """
    across, down = _halvings(sampling)
    sums = _checked_plane(plane).astype(np.uint16)  # at most 255·4·4
    if across:
        sums = _halve(sums, on_samples=_checked_siting(siting) == "left")
    if down:
        sums = _halve(sums.T, on_samples=False).T
    return _divide(sums, 2 * (across + down))


def upsample(
    plane: Bytes, width: int, height: int, sampling: Sampling, siting: Siting = "left"
) -> Bytes:
    """Return a subsampled chroma plane at the full size [height, width], linearly interpolated.

    Between samples in the middle, values are ¾ of the nearer and ¼ of the farther one; between
    samples on columns, the columns keep theirs and the others are means. Edges repeat. Rounded
    once, halves up. Raises ``UsageError`` when the plane has not the size that belongs to it.
    """
    across, down = _halvings(sampling)
    expected = chroma_size(width, height, sampling)
    if _checked_plane(plane).shape != expected[::-1]:
        raise UsageError(
            "a {sampling} chroma plane of {width}×{height} is {expected}, not {shape}",
            sampling=sampling,
            width=width,
            height=height,
            expected=list(expected[::-1]),
            shape=list(plane.shape),
        )
    sums = plane.astype(np.uint16)
    if across:
        sums = _double(sums, width, on_samples=_checked_siting(siting) == "left")
    if down:
        sums = _double(sums.T, height, on_samples=False).T
    return _divide(sums, 2 * (across + down))


def _halve(values: NDArray[np.uint16], *, on_samples: bool) -> NDArray[np.uint16]:
    """[H, W] → [H, ⌈W/2⌉], times 4: weights 1 2 1 on the even columns, or 2 2 between two."""
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")  # column w stands at w + 1
    width = values.shape[1]
    even = padded[:, 1 : width + 1 : 2]
    after = padded[:, 2 : width + 2 : 2]
    if on_samples:
        return padded[:, 0:width:2] + 2 * even + after
    return 2 * even + 2 * after


def _double(values: NDArray[np.uint16], width: int, *, on_samples: bool) -> NDArray[np.uint16]:
    """[H, ⌈width/2⌉] → [H, width], times 4: the inverse placement of ``_halve``, linear."""
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    before, here, after = padded[:, :-2], values, padded[:, 2:]
    result = np.empty((values.shape[0], 2 * values.shape[1]), dtype=np.uint16)
    if on_samples:
        result[:, 0::2] = 4 * here
        result[:, 1::2] = 2 * here + 2 * after
    else:
        result[:, 0::2] = 3 * here + before
        result[:, 1::2] = 3 * here + after
    return result[:, :width]


def _divide(sums: NDArray[np.uint16], bits: int) -> Bytes:
    """Return sums / 2^bits, rounded to nearest, halves up, as a contiguous array."""
    return np.ascontiguousarray(((sums + ((1 << bits) >> 1)) >> bits).astype(np.uint8))


def _apply(matrix: Floats, values: Floats) -> Floats:
    # Three products and two sums per value, spelled out: a matrix product may sum in any order.
    first, second, third = values[..., 0], values[..., 1], values[..., 2]
    rows = [a * first + b * second + c * third for a, b, c in matrix]
    return np.stack(rows, axis=-1)


def _round(values: Floats) -> Bytes:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _halvings(sampling: str) -> tuple[int, int]:
    """Return how often chroma is halved (across, down)."""
    halvings = {"4:4:4": (0, 0), "4:2:2": (1, 0), "4:2:0": (1, 1)}
    if sampling not in halvings:
        raise UsageError(
            "the sampling must be 4:4:4, 4:2:2 or 4:2:0, it is {value}", value=repr(sampling)
        )
    return halvings[sampling]


def _checked_siting(siting: str) -> str:
    if siting not in ("left", "center"):
        raise UsageError('the siting must be "left" or "center", it is {value}', value=repr(siting))
    return siting


def _checked(values: Bytes) -> Bytes:
    if values.dtype != np.uint8 or values.ndim < 1 or values.shape[-1] != 3:
        raise UsageError(
            "expected uint8 [..., 3], got {dtype} {shape}",
            dtype=values.dtype.name,
            shape=list(values.shape),
        )
    return values


def _checked_plane(plane: Bytes) -> Bytes:
    if plane.dtype != np.uint8 or plane.ndim != 2 or not plane.size:
        raise UsageError(
            "expected a uint8 plane [H, W], got {dtype} {shape}",
            dtype=plane.dtype.name,
            shape=list(plane.shape),
        )
    return plane
