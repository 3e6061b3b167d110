"""The zero-padding shortcut on bytes: that of the numbers they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.quantization import dequantize
from lushan.reference.quantized_residual import quantized_zero_padding_shortcut
from lushan.reference.residual import zero_padding_shortcut
from support.quantized import draw_parameters


@given(seed=st.integers(0, 2**32 - 1), stride=st.integers(1, 3), channels=st.integers(3, 9))
def test_equal_to_that_of_the_numbers(seed, stride, channels):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    scale, zero_point = draw_parameters(random)
    y = quantized_zero_padding_shortcut(x, zero_point, stride=stride, channels=channels)
    numbers = dequantize(x, scale, zero_point)
    expected = zero_padding_shortcut(numbers, stride=stride, channels=channels)
    np.testing.assert_array_equal(dequantize(y, scale, zero_point), expected, strict=True)


def test_messages():
    x, zero = np.zeros((1, 2, 2, 3), np.uint8), np.asarray(0, np.float32)
    with pytest.raises(UsageError, match="cannot take x"):
        quantized_zero_padding_shortcut(x, zero, stride=1, channels=2)
    with pytest.raises(UsageError, match=r"x_zero_point has the shape \(3,\)"):
        quantized_zero_padding_shortcut(x, np.zeros(3, np.float32), stride=1, channels=3)
