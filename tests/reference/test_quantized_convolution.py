"""Convolution of bytes: bit for bit a plain loop, ONNX's integers, and close to real numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.convolution import convolution
from lushan.reference.quantization import (
    QuantizationParameters,
    dequantize,
    quantize,
    quantize_weight,
    range_parameters,
)
from lushan.reference.quantized_convolution import quantized_convolution
from lushan.reference.requantization import LONGEST_SUM, exact_type
from support.quantized import draw_parameters, slow_finish, slow_sums

small = st.integers(1, 3)
windows = st.fixed_dictionaries(
    {
        "stride": st.tuples(small, small),
        "padding": st.tuples(*[st.integers(0, 3)] * 4),
        "dilation": st.tuples(small, small),
        "groups": small,
    }
)


def layer(random, *, OC, KH, KW, part, groups, per_channel):
    """Return zero point, weight, weight_scale, bias as an attacker would choose them."""
    weight = random.integers(-128, 128, (OC * groups, KH, KW, part), dtype=np.int8)
    scale = np.exp(random.normal(-4, 2, OC * groups)).astype(np.float32)
    bias = random.normal(0, 10, OC * groups).astype(np.float32)
    shape = (part * groups,) if per_channel else ()
    zero_point = np.asarray(random.uniform(0, 255, shape), np.float32)
    return zero_point, weight, scale, bias


@given(seed=st.integers(0, 2**32 - 1), window=windows, data=st.data())
@settings(max_examples=150)
def test_equal_to_a_plain_loop_bit_for_bit(seed, window, data):
    random = np.random.default_rng(seed)
    sizes = {name: data.draw(small) for name in ("OC", "KH", "KW", "part")}
    groups = window["groups"]
    zero_point, weight, scale, bias = layer(
        random, **sizes, groups=groups, per_channel=data.draw(st.booleans())
    )
    shape = (data.draw(small), 7, data.draw(st.integers(7, 9)), sizes["part"] * groups)
    x = random.integers(0, 256, shape, dtype=np.uint8)
    sums = slow_sums(x, zero_point, weight, **window)
    joined = data.draw(st.booleans())
    output = draw_parameters(random) if data.draw(st.booleans()) else None
    values = random.integers(0, 256, sums.shape, dtype=np.uint8)
    shortcut = (values, *draw_parameters(random)) if joined else None
    relu = data.draw(st.booleans())
    y = quantized_convolution(
        x,
        zero_point,
        weight,
        scale,
        bias,
        shortcut=shortcut and (values, QuantizationParameters(*shortcut[1:])),
        output=output and QuantizationParameters(*output),
        activation="relu" if relu else "none",
        **window,
    )
    expected = slow_finish(
        sums, zero_point, weight, scale, bias,
        shortcut=shortcut, output=output, relu=relu, groups=groups,
    )  # fmt: skip
    np.testing.assert_array_equal(y, expected, strict=True)


@pytest.mark.parametrize("channels", [3, 64, 512])  # float32, and float64 below the surface
def test_sums_are_those_of_onnx(onnx_run, channels):
    random = np.random.default_rng(channels)
    x = random.integers(0, 256, (2, 9, 8, channels), dtype=np.uint8)
    weight = random.integers(-128, 128, (5, 3, 3, channels), dtype=np.int8)
    weight[0], x[0, :5] = -128, 255  # the most negative sum that there is
    one, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    zero_point = np.asarray(7, np.float32)
    ours = quantized_convolution(x, zero_point, weight, one, zero, padding=1, stride=2)
    [theirs] = onnx_run(
        "ConvInteger",
        x.transpose(0, 3, 1, 2),
        # As uint8 with a zero point: older versions of ONNX Runtime take no other weights.
        (weight.transpose(0, 3, 1, 2).astype(np.int16) + 128).astype(np.uint8),
        np.array(7, np.uint8),
        np.array(128, np.uint8),
        pads=[1, 1, 1, 1],
        strides=[2, 2],
    )
    # float32 holds these integers up to 2**24; the offset of the zero point rounds once more.
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), theirs, rtol=1.3e-7, atol=8)


def test_close_to_the_convolution_of_real_numbers():
    random = np.random.default_rng(3)
    x = random.normal(0, 1, (2, 8, 8, 16)).astype(np.float32)
    weight = random.normal(0, 0.1, (12, 3, 3, 16)).astype(np.float32)
    bias, r = random.normal(0, 1, 12).astype(np.float32), random.normal(0, 1, (2, 8, 8, 12))
    r = r.astype(np.float32)
    exact = np.maximum(convolution(x, weight, bias, padding=1) + r, 0)
    of_x, of_r, of_y = (range_parameters(a.min(), a.max()) for a in (x, r, exact))
    q, scale = quantize_weight(weight * of_x.scale)
    y = quantized_convolution(
        quantize(x, of_x.scale, of_x.zero_point),
        of_x.zero_point,
        q,
        scale,
        bias,
        shortcut=(quantize(r, of_r.scale, of_r.zero_point), of_r),
        output=of_y,
        activation="relu",
        padding=1,
    )
    error = dequantize(y, of_y.scale, of_y.zero_point) - exact
    assert 10 * np.log10((exact**2).mean() / (error**2).mean()) > 35  # dB


def test_padding_is_zero_whatever_byte_stands_for_it():
    random = np.random.default_rng(4)
    x = random.normal(0, 1, (1, 4, 4, 3)).astype(np.float32)
    weight = random.normal(0, 1, (2, 3, 3, 3)).astype(np.float32)
    q, scale = quantize_weight(weight)
    bias = np.zeros(2, np.float32)
    step = np.float32(1 / 64)
    results = []
    for zero_point in (0, 100, 255):
        z = np.asarray(zero_point, np.float32)
        bytes_ = np.full((1, 4, 4, 3), zero_point, np.uint8)  # a plane of zeros
        results.append(quantized_convolution(bytes_, z, q, scale * step, bias, padding=2))
    assert x.any()
    for result in results:
        np.testing.assert_allclose(result, 0, atol=1e-4)


def test_every_bit_of_a_long_sum_is_kept():
    """Chapter 14 does not happen here: 20000000 + 1 is 20000001 in integers."""
    x = np.full((1, 1, 1, 4608), 255, np.uint8)
    weight = np.full((1, 1, 1, 4608), 127, np.int8)
    weight[..., ::2] = -127
    weight[..., 0] = -126
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    y = quantized_convolution(x, np.asarray(0, np.float32), weight, one, zero)
    assert y.item() == 255


def test_sums_that_could_leave_32_bits_are_refused():
    assert LONGEST_SUM * 255 * 128 < 2**31 <= (LONGEST_SUM + 1) * 255 * 128
    assert exact_type(514) is np.float32
    assert exact_type(515) is exact_type(LONGEST_SUM) is np.float64
    with pytest.raises(UsageError, match="65794 products of bytes does not fit 32 bits; at most"):
        exact_type(LONGEST_SUM + 1)


def test_messages():
    random = np.random.default_rng(5)
    zero_point, weight, scale, bias = layer(
        random, OC=2, KH=3, KW=3, part=4, groups=1, per_channel=False
    )
    x = np.zeros((1, 5, 5, 4), np.uint8)
    with pytest.raises(UsageError, match="x must be a NumPy array of uint8, got float32"):
        quantized_convolution(x.astype(np.float32), zero_point, weight, scale, bias)
    with pytest.raises(UsageError, match="weight must be a NumPy array of int8, got float32"):
        quantized_convolution(x, zero_point, weight.astype(np.float32), scale, bias)
    with pytest.raises(UsageError, match=r"weight \(2, 3, 3, 4\).*groups 2 do not fit x"):
        quantized_convolution(x, zero_point, weight, scale, bias, groups=2)
    with pytest.raises(UsageError, match=r"bias has the shape \(1,\), so OC is 1"):
        quantized_convolution(x, zero_point, weight, scale, bias[:1])
    whole = QuantizationParameters(np.asarray(1, np.float32), np.asarray(0, np.float32))
    half = QuantizationParameters(np.asarray(1, np.float32), np.asarray(0.5, np.float32))
    shortcut = (np.zeros((1, 5, 5, 2), np.uint8), whole)
    with pytest.raises(UsageError, match=r"shortcut has the shape \(1, 5, 5, 2\), so HO is 5"):
        quantized_convolution(x, zero_point, weight, scale, bias, shortcut=shortcut)
    with pytest.raises(UsageError, match=r"y_zero_point must be a whole number, got 0\.5"):
        quantized_convolution(x, zero_point, weight, scale, bias, output=half)
    with pytest.raises(UsageError, match=r"weight_scale must be above 0 and finite, got 0\.0"):
        quantized_convolution(x, zero_point, weight, scale * 0, bias)
    with pytest.raises(UsageError, match="activation must be one of none, relu, got 'tanh'"):
        quantized_convolution(x, zero_point, weight, scale, bias, activation="tanh")
