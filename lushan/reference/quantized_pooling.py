"""Pooling of bytes.

The greatest byte stands for the greatest number, so max pooling is exact and keeps the scale. A
mean has a scale of its own, since a whole plane varies less than its pixels. See
``reference.pooling``.
"""

from __future__ import annotations

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import check_elements
from lushan.reference.geometry import Edges, Pair
from lushan.reference.pooling import pooling_window
from lushan.reference.quantization import (
    HIGHEST,
    Bytes,
    Floats,
    check_scale,
    check_zero_point,
    round_to_bytes,
)


def quantized_max_pooling(
    x: Bytes, kernel: Pair, *, stride: Pair | None = None, padding: Edges = 0
) -> Bytes:
    """Return the greatest byte of each window, [N, HO, WO, C], for bytes x [N, H, W, C].

    Padding never wins. ``stride`` is the kernel unless given.
    """
    check_elements("quantized_max_pooling", x=(x, "N H W C", "uint8"))
    slide = pooling_window(kernel, stride, padding)
    N, H, W, C = x.shape
    HO, WO = slide.output_size(H, W)
    y = np.zeros((N, HO, WO, C), np.uint8)  # no byte is less, and every window sees a pixel
    for tap in slide.taps(H, W, range(HO), WO):
        best = y[tap.output]
        np.maximum(best, x[tap.input], out=best)
    return y


def quantized_global_average_pooling(
    x: Bytes, x_scale: Floats, x_zero_point: Floats, y_scale: Floats, y_zero_point: Floats
) -> Bytes:
    """Return the mean of each channel of each picture, bytes [N, C], for bytes x [N, H, W, C].

    The sum of a plane is an exact 32-bit integer. In steps of float32 that round one by one:

        v = float32(sum) * (float32(x_scale / y_scale) / float32(H * W))
        v = v + float32(y_zero_point - x_zero_point * x_scale / y_scale)

    then ``round_to_bytes``. Scales and zero points are (). Raises UsageError for parameters that
    cannot be and for planes whose sum could leave 32 bits.
    """
    name = "quantized_global_average_pooling"
    parameters = {
        "x_scale": x_scale,
        "x_zero_point": x_zero_point,
        "y_scale": y_scale,
        "y_zero_point": y_zero_point,
    }
    check_elements(
        name,
        x=(x, "N H W C", "uint8"),
        **{key: (value, "", "float32") for key, value in parameters.items()},
    )
    for key, value in parameters.items():
        (check_scale if key.endswith("scale") else check_zero_point)(name, key, value)
    pixels = check_plane(*x.shape[1:3])
    multiplier, offset = average_requantization(x_scale, x_zero_point, y_scale, y_zero_point)
    sums = x.sum(axis=(1, 2), dtype=np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        v = sums.astype(np.float32) * (multiplier / np.float32(pixels))
        v += offset
    return round_to_bytes(v)


def check_plane(height: int, width: int) -> int:
    """Return the pixels of a plane; raises UsageError where the sum of them could leave 32 bits."""
    if height * width * HIGHEST >= 2**31:
        raise UsageError(
            "the sum of a plane of {height}×{width} bytes does not fit 32 bits",
            height=height,
            width=width,
        )
    return height * width


def average_requantization(
    x_scale: Floats, x_zero_point: Floats, y_scale: Floats, y_zero_point: Floats
) -> tuple[np.float32, np.float32]:
    """Return the two constants above, multiplier (of the mean) and offset, made in float64."""
    with np.errstate(over="ignore"):
        ratio = float(x_scale) / float(y_scale)
        offset = float(y_zero_point) - float(x_zero_point) * ratio
        return np.float32(ratio), np.float32(offset)
