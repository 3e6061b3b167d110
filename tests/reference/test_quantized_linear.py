"""The fully connected layer on bytes: bit for bit a plain loop, and a convolution of one pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.quantized_convolution import quantized_convolution
from lushan.reference.quantized_linear import quantized_linear
from support.quantized import slow_finish, slow_sums


@given(seed=st.integers(0, 2**32 - 1), sizes=st.tuples(*[st.integers(1, 9)] * 3))
def test_equal_to_a_plain_loop_and_to_a_convolution(seed, sizes):
    random = np.random.default_rng(seed)
    N, IC, OC = sizes
    x = random.integers(0, 256, (N, IC), dtype=np.uint8)
    weight = random.integers(-128, 128, (OC, IC), dtype=np.int8)
    scale = np.exp(random.normal(-4, 2, OC)).astype(np.float32)
    bias = random.normal(0, 10, OC).astype(np.float32)
    zero_point = np.asarray(random.integers(0, 256), np.float32)
    y = quantized_linear(x, zero_point, weight, scale, bias)
    pixels, kernel = x[:, None, None], weight[:, None, None]
    sums = slow_sums(pixels, zero_point, kernel, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    expected = slow_finish(sums, zero_point, kernel, scale, bias)
    np.testing.assert_array_equal(y, expected[:, 0, 0], strict=True)
    convolved = quantized_convolution(pixels, zero_point, kernel, scale, bias)
    np.testing.assert_array_equal(y, convolved[:, 0, 0], strict=True)


def test_messages():
    x, weight = np.zeros((1, 4), np.uint8), np.zeros((2, 3), np.int8)
    one, zero = np.ones(2, np.float32), np.asarray(0, np.float32)
    with pytest.raises(UsageError, match=r"weight has the shape \(2, 3\), so IC is 3"):
        quantized_linear(x, zero, weight, one, one)
