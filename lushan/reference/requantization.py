"""From the integer sum of a layer to the bytes of its output, in one step of float32.

A sum of bytes times int8 weights is an exact 32-bit integer, whatever its order. What the layer
gives is a linear function of it, channel by channel:

    v = float32(sum) * multiplier     multiplier = weight_scale / y_scale
    v = v + offset                    offset = bias, and what the zero points add, / y_scale
    v = v + float32(shortcut) * shortcut_multiplier      where there is a residual sum
    y = v clamped to low … 255, rounded half to even     low: 0, or the zero point after a ReLU

Each line rounds once for each operation in it; no multiply and add are fused. So the answer is the
same bit for bit on every instruction set, and residual sum and ReLU cost no rounding to bytes of
their own. Where no y_scale is given, y is v itself, float32, and ReLU is v if v > 0 else 0.

``weight_scale`` is what one unit of the sum stands for: the scale of x times that of the weights.
The constants are computed here in float64, once, for the reference and for the engines alike.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.record import record
from lushan.reference.quantization import (
    HIGHEST,
    Bytes,
    Floats,
    QuantizationParameters,
    SignedBytes,
    check_scale,
    check_zero_point,
    round_to_bytes,
)

LONGEST_SUM = (2**31 - 1) // (HIGHEST * 128)  # products whose sum cannot leave 32 bits
_EXACT_IN_FLOAT32 = 2**24 // (HIGHEST * 128)  # products whose sums are all integers of float32
ACTIVATIONS = ("none", "relu")

# The shortcut of a residual sum: its bytes, of the shape of the output, and what they stand for.
Shortcut: TypeAlias = "tuple[Bytes, QuantizationParameters]"


@record
class Requantization:
    """The constants of one layer; ``multiplier`` and ``offset`` are float32 [OC].

    ``shortcut_multiplier`` is 0 without a residual sum. ``low`` is the least byte of the output,
    None where the output is float32.
    """

    multiplier: Floats
    offset: Floats
    shortcut_multiplier: np.float32
    low: int | None
    relu: bool

    def __call__(self, sums: npt.NDArray[Any], shortcut: Bytes | None = None) -> Bytes | Floats:
        """Return the output for integer sums [..., OC], in any type that holds them exactly."""
        v = self.floats(sums, shortcut)
        return v if self.low is None else round_to_bytes(v, self.low)

    def floats(self, sums: npt.NDArray[Any], shortcut: Bytes | None = None) -> Floats:
        """Return v, after the ReLU where the output is float32."""
        v: Floats = sums.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            v *= self.multiplier
            v += self.offset
            if shortcut is not None:
                v += shortcut.astype(np.float32) * self.shortcut_multiplier
        return np.where(v > 0, v, np.float32(0)) if self.relu and self.low is None else v


def requantization(
    weight: SignedBytes,
    weight_scale: Floats,
    bias: Floats,
    x_zero_point: Floats,
    *,
    shortcut: QuantizationParameters | None = None,
    output: QuantizationParameters | None = None,
    activation: str = "none",
    groups: int = 1,
) -> Requantization:
    """Return the constants of a layer with ``weight`` int8 [OC, KH, KW, IC/G] or [OC, IC].

    ``weight_scale`` and ``bias`` are [OC], ``x_zero_point`` () or [IC], the others (). ``output``
    None asks for float32. Raises UsageError for parameters that cannot be.
    """
    _check(weight_scale, x_zero_point, shortcut, output, activation)
    unit = 1.0 if output is None else float(output.scale)
    zero = 0.0 if output is None else float(output.zero_point)
    # Integers, then few products of few digits: float64 is exact here in any order.
    zero_points = np.broadcast_to(x_zero_point, weight.shape[-1] * groups).astype(np.float64)
    taps = weight.reshape(groups, len(weight) // groups, -1, weight.shape[-1]).sum(
        axis=2, dtype=np.int64
    )
    of_zeros = np.einsum("goc,gc->go", taps, zero_points.reshape(groups, -1)).reshape(-1)
    scale = weight_scale.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        offset = (bias.astype(np.float64) - scale * of_zeros) / unit + zero
        multiplier = (scale / unit).astype(np.float32)
        shortcut_multiplier = np.float32(0)
        if shortcut is not None:
            ratio = float(shortcut.scale) / unit
            offset -= ratio * float(shortcut.zero_point)
            shortcut_multiplier = np.float32(ratio)
        relu = activation == "relu"
        low = None if output is None else round(zero) if relu else 0
        return Requantization(multiplier, offset.astype(np.float32), shortcut_multiplier, low, relu)


def exact_type(products: int) -> type[np.floating[Any]]:
    """Return the float type whose matrix products of bytes and int8 are exact for such long sums.

    Every partial sum is an integer with few enough digits, so BLAS may add in any order. Raises
    UsageError for sums that would not fit 32 bits.
    """
    if products > LONGEST_SUM:
        raise UsageError(
            "a sum of {products} products of bytes does not fit 32 bits; at most {most} do",
            products=products,
            most=LONGEST_SUM,
        )
    return np.float32 if products <= _EXACT_IN_FLOAT32 else np.float64


def _check(
    weight_scale: Floats,
    x_zero_point: Floats,
    shortcut: QuantizationParameters | None,
    output: QuantizationParameters | None,
    activation: str,
) -> None:
    name = "requantization"
    check_scale(name, "weight_scale", weight_scale)
    check_zero_point(name, "x_zero_point", x_zero_point)
    for what, parameters in (("shortcut", shortcut), ("y", output)):
        if parameters is not None:
            check_scale(name, f"{what}_scale", parameters.scale)
            check_zero_point(name, f"{what}_zero_point", parameters.zero_point)
    if output is not None and float(output.zero_point) % 1:
        raise UsageError(
            "{operator}: {name} must be a whole number, got {value}",
            operator=name,
            name="y_zero_point",
            value=float(output.zero_point),
        )
    if activation not in ACTIVATIONS:
        raise UsageError(
            "{operator}: {name} must be one of {known}, got {value!r}",
            operator=name,
            name="activation",
            known=", ".join(ACTIVATIONS),
            value=activation,
        )
