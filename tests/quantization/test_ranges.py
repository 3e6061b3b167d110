"""The range for 256 bytes: what each way to choose it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.quantization.histogram import Histogram
from lushan.quantization.ranges import METHODS, minmax, mse, percentile
from lushan.reference.quantization import dequantize, quantize, range_parameters


def histogram_of(numbers: np.ndarray) -> Histogram:
    histogram = Histogram()
    assert histogram.add(numbers.astype(np.float32))
    return histogram


def square_error(numbers: np.ndarray, ends: tuple[float, float]) -> float:
    of = range_parameters(*ends)
    back = dequantize(quantize(numbers, of.scale, of.zero_point), of.scale, of.zero_point)
    return float(np.square(back.astype(np.float64) - numbers).mean())


@given(seed=st.integers(0, 2**32 - 1), power=st.sampled_from([1, 3]), relu=st.booleans())
def test_mse_errs_no_more_than_the_others(seed: int, power: int, relu: bool) -> None:
    numbers = (np.random.default_rng(seed).standard_normal(20_000) ** power).astype(np.float32)
    if relu:
        numbers = np.maximum(numbers, 0)
    histogram = histogram_of(numbers)
    errors = {name: square_error(numbers, method(histogram)) for name, method in METHODS.items()}
    # 2 %: a histogram knows a number only by its bin.
    assert errors["mse"] <= 1.02 * min(errors.values())


def test_an_outlier_is_clipped_where_that_pays() -> None:
    numbers = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    numbers[0] = 20
    histogram = histogram_of(numbers)
    assert minmax(histogram) == (numbers.min(), 20)
    for method in (percentile, mse):
        low, high = method(histogram)
        assert -6 < low < -3
        assert 3 < high < 8
        assert square_error(numbers, (low, high)) < square_error(numbers, (numbers.min(), 20))


@pytest.mark.parametrize("method", METHODS)
@given(part=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30))
def test_no_range_reaches_beyond_what_occurred_and_zero(method: str, part: list[float]) -> None:
    low, high = METHODS[method](histogram_of(np.array(part)))
    assert min(0, *part) <= low <= high <= max(0, *part)
