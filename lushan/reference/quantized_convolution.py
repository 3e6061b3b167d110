"""Convolution of bytes: exact integer sums, then one step back to bytes.

    sum[n, ho, wo, oc] = sum over kh, kw, ic of x[…] * weight[oc, kh, kw, ic]       (int32)
    y = requantization(sum)                                     (``reference.requantization``)

The window slides as in ``lushan.reference.convolution``, except that padding holds the byte that
stands for 0. The residual sum and ReLU are part of the step back. An integer sum has no order, so
any kernel can equal this bit for bit; here BLAS does it, in a float type that is exact.
"""

from __future__ import annotations

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import check_elements
from lushan.reference.geometry import Edges, Pair, window
from lushan.reference.im2col import gather
from lushan.reference.quantization import (
    Bytes,
    Floats,
    QuantizationParameters,
    SignedBytes,
    padding_bytes,
    per_channel,
)
from lushan.reference.requantization import Shortcut, exact_type, requantization


def quantized_convolution(
    x: Bytes,
    x_zero_point: Floats,
    weight: SignedBytes,
    weight_scale: Floats,
    bias: Floats,
    *,
    shortcut: Shortcut | None = None,
    output: QuantizationParameters | None = None,
    activation: str = "none",
    stride: Pair = 1,
    padding: Edges = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Bytes | Floats:
    """Convolve bytes x [N, H, W, IC] with int8 weight [OC, KH, KW, IC/G] to y [N, HO, WO, OC].

    ``x_zero_point`` is () or [IC], ``weight_scale`` (what one unit of the sum stands for) and
    ``bias`` (in real numbers) are [OC]. ``shortcut`` is bytes of the shape of y and what they stand
    for. y is bytes that stand for numbers as ``output`` says, or float32 without it;
    ``activation`` is "none" or "relu". Raises UsageError for what does not fit, and for sums that
    could leave 32 bits.
    """
    name = "quantized_convolution"
    sizes = check_elements(
        name,
        x=(x, "N H W IC", "uint8"),
        x_zero_point=(x_zero_point, per_channel(x_zero_point, "IC"), "float32"),
        weight=(weight, "OC KH KW IC/G", "int8"),
        weight_scale=(weight_scale, "OC", "float32"),
        bias=(bias, "OC", "float32"),
    )
    if groups < 1 or sizes["IC/G"] * groups != sizes["IC"] or sizes["OC"] % groups:
        raise UsageError(
            "{operator}: weight {weight} [OC, KH, KW, IC/G] and groups {groups} "
            "do not fit x {x} [N, H, W, IC]",
            operator=name,
            weight=weight.shape,
            groups=groups,
            x=x.shape,
        )
    exact = exact_type(weight[0].size)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    y_shape = (len(x), *slide.output_size(*x.shape[1:3]), len(weight))
    added, stands_for = shortcut or (None, None)
    _check_ends(name, y_shape, added, stands_for, output)
    finish = requantization(
        weight,
        weight_scale,
        bias,
        x_zero_point,
        shortcut=stands_for,
        output=output,
        activation=activation,
        groups=groups,
    )
    padded = _padded(x, slide.padding, padding_bytes(x_zero_point)).astype(exact)
    inside = window(weight.shape[1:3], stride=stride, padding=0, dilation=dilation)
    sums = gather(padded, weight.astype(exact), None, inside, groups=groups)
    return finish(sums, added)


def _check_ends(
    name: str,
    y_shape: tuple[int, ...],
    added: Bytes | None,
    stands_for: QuantizationParameters | None,
    output: QuantizationParameters | None,
) -> None:
    """Check the shortcut against the shape of y, and the parameters of both."""
    numbers: dict[str, Floats] = {}
    if stands_for is not None:
        numbers |= {"shortcut_scale": stands_for.scale}
        numbers |= {"shortcut_zero_point": stands_for.zero_point}
    if output is not None:
        numbers |= {"y_scale": output.scale, "y_zero_point": output.zero_point}
    check_elements(
        name,
        y=(np.broadcast_to(np.uint8(0), y_shape), "N HO WO OC", "uint8"),
        shortcut=(added, "N HO WO OC", "uint8"),
        **{key: (number, "", "float32") for key, number in numbers.items()},
    )


def _padded(x: Bytes, padding: tuple[int, int, int, int], value: Bytes) -> Bytes:
    """Return x [N, H, W, C] with rows and columns of ``value``, () or [C], around it."""
    if not any(padding):
        return x
    top, bottom, left, right = padding
    N, H, W, C = x.shape
    padded = np.empty((N, top + H + bottom, left + W + right, C), np.uint8)
    padded[...] = value
    padded[:, top : top + H, left : left + W] = x
    return padded
