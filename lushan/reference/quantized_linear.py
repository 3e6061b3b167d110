"""The fully connected layer on bytes: exact integer sums, then float32 scores.

    sum[n, oc] = sum over ic of x[n, ic] * weight[oc, ic]                           (int32)
    y = requantization(sum), as float32                         (``reference.requantization``)

Scores are compared and made into probabilities: they stay float32. See ``reference.linear``.
"""

from __future__ import annotations

from lushan.reference.arrays import check_elements
from lushan.reference.quantization import Bytes, Floats, SignedBytes, per_channel
from lushan.reference.requantization import exact_type, requantization


def quantized_linear(
    x: Bytes, x_zero_point: Floats, weight: SignedBytes, weight_scale: Floats, bias: Floats
) -> Floats:
    """Return y float32 [N, OC] for bytes x [N, IC] and int8 weight [OC, IC].

    ``x_zero_point`` is () or [IC], ``weight_scale`` (what one unit of the sum stands for) and
    ``bias`` (in real numbers) are [OC]. Raises UsageError for what does not fit, and for sums that
    could leave 32 bits.
    """
    check_elements(
        "quantized_linear",
        x=(x, "N IC", "uint8"),
        x_zero_point=(x_zero_point, per_channel(x_zero_point, "IC"), "float32"),
        weight=(weight, "OC IC", "int8"),
        weight_scale=(weight_scale, "OC", "float32"),
        bias=(bias, "OC", "float32"),
    )
    exact = exact_type(weight.shape[1])
    finish = requantization(weight, weight_scale, bias, x_zero_point)
    return finish.floats(x.astype(exact) @ weight.T.astype(exact))
