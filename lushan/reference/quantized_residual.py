"""The zero-padding shortcut on bytes; the residual sum itself is part of a convolution's end.

See ``reference.residual``. What is added here are zeros too, but a zero is the byte that stands
for it.
"""

from __future__ import annotations

import numpy as np

from lushan.reference.arrays import check_elements
from lushan.reference.quantization import Bytes, Floats, check_zero_point, padding_bytes
from lushan.reference.residual import zero_channels


def quantized_zero_padding_shortcut(
    x: Bytes, x_zero_point: Floats, *, stride: int, channels: int
) -> Bytes:
    """Return every stride-th pixel of x [N, H, W, C] and zeros up to ``channels`` (option A).

    ``x_zero_point`` is (). y is bytes [N, ceil(H/stride), ceil(W/stride), channels] of the scale of
    x. Raises UsageError when there are fewer channels than C.
    """
    name = "quantized_zero_padding_shortcut"
    check_elements(name, x=(x, "N H W C", "uint8"), x_zero_point=(x_zero_point, "", "float32"))
    check_zero_point(name, "x_zero_point", x_zero_point)
    before, after = zero_channels(x.shape, stride, channels)
    picked = x[:, ::stride, ::stride]
    zero = int(padding_bytes(x_zero_point))
    sides = ((0, 0), (0, 0), (0, 0), (before, after))
    return np.pad(picked, sides, constant_values=zero)
