"""Bytes for numbers: what is exact, what is rounded, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.image.preprocess import Preprocessing
from lushan.reference.quantization import (
    dequantize,
    padding_bytes,
    quantize,
    quantize_weight,
    range_parameters,
    round_to_bytes,
)

numbers = st.floats(-1e6, 1e6, width=32)


def f32(*values):
    return np.array(values[0] if len(values) == 1 else values, np.float32)


@given(low=numbers, high=numbers, seed=st.integers(0, 2**32 - 1))
def test_numbers_of_the_range_come_back_within_half_a_step(low, high, seed):
    low, high = min(low, high), max(low, high)
    if max(abs(low), abs(high)) < 1e-30:
        return
    parameters = range_parameters(low, high)
    scale, zero_point = parameters.scale, parameters.zero_point
    assert zero_point == round(float(zero_point))
    x = np.random.default_rng(seed).uniform(min(low, 0), max(high, 0), 100).astype(np.float32)
    x[0] = 0
    back = dequantize(quantize(x, scale, zero_point), scale, zero_point)
    # The zero point is rounded too, which moves both ends by up to half a step.
    assert np.abs(back - x).max() <= scale * 1.0001
    assert back[0] == 0
    inside = (x > low + scale) & (x < high - scale)
    assert np.abs(back - x)[inside].max(initial=0) <= scale * 0.5001


def test_after_a_relu_the_zero_point_is_zero():
    assert range_parameters(0.0, 7.0).zero_point == 0
    assert range_parameters(3.0, 7.0).zero_point == 0  # 0 is part of every range
    assert range_parameters(-7.0, -3.0).zero_point == 255


def test_the_widest_range_has_a_scale():
    assert np.isfinite(range_parameters(-3.4e38, 3.4e38).scale)


@pytest.mark.parametrize("ends", [(0, 0), (0, 1e-44), (np.nan, 1), (0, np.nan), (-np.inf, 0)])
def test_ranges_that_no_bytes_stand_for(ends):
    with pytest.raises(UsageError, match="no bytes can stand for the range"):
        range_parameters(*ends)


def test_halves_round_to_even_and_extremes_are_clamped_first():
    v = f32(-np.inf, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 3e38, np.inf, np.nan)
    expected = [0, 0, 0, 2, 2, 254, 255, 255, 255, 255]
    np.testing.assert_array_equal(round_to_bytes(v), expected)
    np.testing.assert_array_equal(round_to_bytes(v, 2), [max(2, n) for n in expected])


def test_a_normalised_picture_is_quantised_to_its_pixels():
    for mean, std in [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.0, 0.0, 1.0), (1.0, 1 / 255, 0.01)),
    ]:
        recipe = Preprocessing(height=16, width=16, crop_pct=1.0, mean=mean, std=std)
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        scale, zero_point = 1 / (255 * f32(*std)), 255 * f32(*mean)
        x = ((pixels / np.float32(255) - f32(*mean)) / f32(*std)).astype(np.float32)
        assert recipe.mean == mean
        np.testing.assert_array_equal(quantize(x, scale, zero_point), pixels)
        back = dequantize(pixels, scale, zero_point)
        np.testing.assert_allclose(back, x, atol=1e-6 * np.abs(x).max())
        np.testing.assert_array_equal(padding_bytes(zero_point), np.rint(255 * f32(*mean)))


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-20, 1.0, 1e20]))
def test_weights_come_back_within_half_a_step_of_their_channel(seed, scale):
    weight = np.random.default_rng(seed).standard_normal((5, 3, 3, 2)).astype(np.float32)
    weight *= f32(1, 10, 100, 0, 1e-44 / scale)[:, None, None, None] * np.float32(scale)
    q, scales = quantize_weight(weight)
    assert q.dtype == np.int8
    assert q.shape == weight.shape
    back = q * scales[:, None, None, None].astype(np.float64)
    step = scales[:, None, None, None] * 0.5001
    assert (np.abs(back - weight)[:3] <= step[:3]).all()
    assert np.abs(q[:3]).max(axis=(1, 2, 3)).tolist() == [127, 127, 127]
    assert not q[3:].any()  # dead: no scale would be a number of full precision
    assert scales[3:].tolist() == [1, 1]


def test_messages():
    x, one, zero = np.ones((2, 3), np.float32), f32(1), f32(0)
    with pytest.raises(UsageError, match="quantize: x must be a NumPy array of float32, got flo"):
        quantize(x.astype(np.float64), one, zero)
    with pytest.raises(UsageError, match="dequantize: q must be a NumPy array of uint8, got flo"):
        dequantize(x, one, zero)
    with pytest.raises(UsageError, match=r"scale has the shape \(2,\), so C is 2"):
        quantize(x, np.ones(2, np.float32), zero)
    for bad in (0, -1, np.nan, np.inf):
        with pytest.raises(UsageError, match=f"scale must be above 0 and finite, got {float(bad)}"):
            quantize(x, f32(bad), zero)
    for bad in (-1, 256, np.nan):
        with pytest.raises(UsageError, match=f"zero_point must be from 0 to 255, got {float(bad)}"):
            quantize(x, one, f32(bad))
    with pytest.raises(UsageError, match="weights that are NaN or infinite"):
        quantize_weight(np.full((2, 2), np.nan, np.float32))
