"""Pooling of bytes: max pooling exact, the mean bit for bit a plain calculation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.pooling import max_pooling
from lushan.reference.quantized_pooling import (
    quantized_global_average_pooling,
    quantized_max_pooling,
)
from support.quantized import F, draw_parameters, to_byte


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_max_pooling_is_that_of_the_numbers(seed, data):
    x = np.random.default_rng(seed).integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    kernel = data.draw(st.integers(1, 3))
    window = {
        "stride": data.draw(st.integers(1, 3)),
        "padding": data.draw(st.tuples(*[st.integers(0, kernel - 1)] * 4)),
    }
    y = quantized_max_pooling(x, kernel, **window)
    # All numbers below 0: padding must not win.
    numbers, _ = max_pooling(x.astype(np.float32) - 300, kernel, **window)
    np.testing.assert_array_equal(y, (numbers + 300).astype(np.uint8), strict=True)


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 9), width=st.integers(1, 9))
def test_the_mean_is_a_plain_calculation_bit_for_bit(seed, height, width):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    (x_scale, x_zero), (y_scale, y_zero) = (draw_parameters(random) for _ in range(2))
    y = quantized_global_average_pooling(x, x_scale, x_zero, y_scale, y_zero)
    ratio = float(x_scale) / float(y_scale)
    for n, c in np.ndindex(2, 3):
        total = sum(int(q) for q in x[n, :, :, c].ravel())
        v = F(total) * F(F(ratio) / F(height * width))
        v = F(v + F(float(y_zero) - float(x_zero) * ratio))
        assert y[n, c] == to_byte(v, 0)


def test_the_mean_is_near_that_of_the_numbers():
    x = np.random.default_rng(1).integers(0, 256, (1, 7, 7, 50), dtype=np.uint8)
    scale, zero = np.asarray(F(0.5)), np.asarray(F(10))
    y = quantized_global_average_pooling(x, scale, zero, np.asarray(F(0.3)), np.asarray(F(3)))
    numbers = (x.astype(float) - 10).mean(axis=(1, 2)) * 0.5
    assert np.abs((y.astype(float) - 3) * 0.3 - numbers.clip(None, 252 * 0.3)).max() <= 0.1501


def test_messages():
    one, zero = np.asarray(F(1)), np.asarray(F(0))
    x = np.zeros((1, 2, 2, 1), np.uint8)
    with pytest.raises(UsageError, match=r"y_scale must be above 0 and finite, got 0\.0"):
        quantized_global_average_pooling(x, one, zero, zero, zero)
    with pytest.raises(UsageError, match=r"x_zero_point must be from 0 to 255, got 256\.0"):
        quantized_global_average_pooling(x, one, np.asarray(F(256)), one, zero)
    plane = np.broadcast_to(np.uint8(0), (1, 4096, 4096, 1))
    with pytest.raises(UsageError, match="the sum of a plane of 4096×4096 bytes does not fit"):
        quantized_global_average_pooling(plane, one, zero, one, zero)
    with pytest.raises(UsageError, match="must be smaller than the kernel"):
        quantized_max_pooling(x, 2, padding=2)
