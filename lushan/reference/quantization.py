"""Quantisation: real numbers as unsigned bytes, and back.

    a byte q stands for   (q - zero_point) * scale

(Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-
only inference".) Activations are uint8 with one scale and one zero point per tensor; 0.0 is always
exact, because padding is made of it. After a ReLU nothing is below 0 and the zero point is 0.
Weights are int8 without a zero point, with a scale per output channel (Krishnamoorthi 2018).

Only the picture itself is quantised per channel, and its zero point need not be an integer: with
scale = 1 / (255 * std) and zero_point = 255 * mean, the bytes of a normalised picture are the
pixels that it was made from, and nothing is lost.

What is written here holds bit for bit on every instruction set: float32 steps that round one by
one, in the order given, never two in one instruction (no fused multiply-add).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.record import record
from lushan.reference.arrays import check_elements

Bytes: TypeAlias = npt.NDArray[np.uint8]
SignedBytes: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float32]

HIGHEST = 255  # of a byte
HIGHEST_WEIGHT = 127  # -128 is left out, so that weights are symmetric
# Below this a number of float32 has fewer digits: a channel whose weights are so small is dead.
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@record
class QuantizationParameters:
    """What the bytes of a tensor stand for: ``scale`` and ``zero_point``, float32 () or [C]."""

    scale: Floats
    zero_point: Floats


def quantize(x: Floats, scale: Floats, zero_point: Floats) -> Bytes:
    """Return x [..., C] as bytes, uint8 of the same shape.

    v = x * (1 / scale), the reciprocal rounded to float32; v = v + zero_point; then
    ``round_to_bytes``. ``scale`` and ``zero_point`` are () or [C]. Numbers out of range become the
    nearest byte, a NaN becomes 255. Raises UsageError for shapes, types or parameters that cannot
    be.
    """
    check_parameters("quantize", scale=scale, zero_point=zero_point, x=x)
    with np.errstate(over="ignore", invalid="ignore"):
        v = x * reciprocal(scale)
        v += zero_point
    return round_to_bytes(v)


def reciprocal(scale: Floats) -> Floats:
    """Return 1 / scale, rounded to float32 once."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / scale.astype(np.float64)).astype(np.float32)


def dequantize(q: Bytes, scale: Floats, zero_point: Floats) -> Floats:
    """Return what the bytes q [..., C] stand for: (q - zero_point) * scale, float32.

    ``scale`` and ``zero_point`` are () or [C]. Raises UsageError as ``quantize`` does.
    """
    check_parameters("dequantize", scale=scale, zero_point=zero_point, q=q)
    x: Floats = q.astype(np.float32)
    x -= zero_point
    with np.errstate(over="ignore"):
        x *= scale
    return x


def round_to_bytes(v: Floats, low: int = 0) -> Bytes:
    """Return ``v`` as bytes from ``low`` to 255: clamped first, then rounded half to even.

    Clamping first keeps the conversion in range on every processor. v = v if v < 255 else 255, and
    then v = v if v > low else low: so a NaN becomes 255.
    """
    v = np.where(v < HIGHEST, v, np.float32(HIGHEST))
    v = np.where(v > low, v, np.float32(low))
    return np.rint(v).astype(np.uint8)


def padding_bytes(zero_point: Floats) -> Bytes:
    """Return the bytes that padding holds, () or [C]: those that stand for 0, rounded to even."""
    return np.rint(zero_point).astype(np.uint8)


def range_parameters(low: float, high: float) -> QuantizationParameters:
    """Return scale and zero point, both (), for numbers from ``low`` to ``high`` and 0.

    Raises UsageError for a range that is not finite or has nothing but 0 in it.
    """
    bottom, top = min(0.0, low), max(0.0, high)
    scale = np.float32((top - bottom) / HIGHEST)
    if not (np.isfinite([low, high]).all() and SMALLEST_SCALE <= scale < np.inf):
        raise UsageError("no bytes can stand for the range {low} to {high}", low=low, high=high)
    zero_point = np.float32(min(HIGHEST, max(0, round(-bottom / float(scale)))))
    return QuantizationParameters(np.asarray(scale), np.asarray(zero_point))


def quantize_weight(weight: npt.NDArray[np.floating]) -> tuple[SignedBytes, Floats]:
    """Return a weight [OC, ...] as int8 of the same shape, with its scales float32 [OC].

    scale = max |weight| / 127 for each output channel; weight ≈ int8 * scale. A channel of zeros,
    or of numbers so small that their scale would lose digits, becomes zeros of scale 1. Raises
    UsageError for weights that are not finite.
    """
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(flat).max(axis=1)
    if not np.isfinite(largest).all():
        raise UsageError("weights that are NaN or infinite cannot be quantised")
    scale = (largest / HIGHEST_WEIGHT).astype(np.float32)
    dead = scale < SMALLEST_SCALE
    scale[dead] = 1
    flat[dead] = 0
    rounded = np.rint(flat / scale.astype(np.float64)[:, None])
    rounded = rounded.clip(-HIGHEST_WEIGHT, HIGHEST_WEIGHT)  # the scale may have rounded down
    return rounded.astype(np.int8).reshape(weight.shape), scale


def check_parameters(
    operator: str,
    *,
    scale: Floats | None = None,
    zero_point: Floats | None = None,
    **array: npt.NDArray[np.generic],
) -> None:
    """Check the parameters of one array [..., C], () or [C] each, and the array's element type.

    The array called ``x`` must be float32, any other uint8. Raises UsageError.
    """
    [(name, values)] = array.items()
    element = "float32" if name == "x" else "uint8"
    parameters = {"scale": scale, "zero_point": zero_point}
    check_elements(
        operator,
        **{name: (values, "... C", element)},
        **{key: (value, per_channel(value, "C"), "float32") for key, value in parameters.items()},
    )
    check_scale(operator, "scale", scale)
    check_zero_point(operator, "zero_point", zero_point)


def per_channel(parameter: Floats | None, letter: str) -> str:
    """Return the specification of a parameter that is a number, or one for each of ``letter``."""
    return letter if parameter is not None and np.ndim(parameter) else ""


def check_scale(operator: str, name: str, scale: Floats | None) -> None:
    """Raise UsageError unless all scales are above 0 and finite."""
    if scale is not None:
        wrong = scale[~((scale > 0) & (scale < np.inf))]
        if wrong.size:
            raise UsageError(
                "{operator}: {name} must be above 0 and finite, got {value}",
                operator=operator,
                name=name,
                value=float(wrong.flat[0]),
            )


def check_zero_point(operator: str, name: str, zero_point: Floats | None) -> None:
    """Raise UsageError unless all zero points are from 0 to 255."""
    if zero_point is not None:
        wrong = zero_point[~((zero_point >= 0) & (zero_point <= HIGHEST))]
        if wrong.size:
            raise UsageError(
                "{operator}: {name} must be from 0 to 255, got {value}",
                operator=operator,
                name=name,
                value=float(wrong.flat[0]),
            )
