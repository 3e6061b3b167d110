"""Histograms: nothing is lost or moved while they widen, whatever the order of the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.quantization.histogram import BINS, Histogram

numbers = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30
)


def counted(parts: list[list[float]]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        assert histogram.add(np.array(part, np.float32))
    return histogram


@given(parts=st.lists(numbers, min_size=1, max_size=4))
def test_in_any_parts_and_order_the_counts_are_those_of_all_at_once(
    parts: list[list[float]],
) -> None:
    whole = counted([[number for part in parts for number in part]])
    for order in (parts, parts[::-1]):
        histogram = counted(order)
        assert histogram.width == whole.width
        assert (histogram.low, histogram.high) == (whole.low, whole.high)
        np.testing.assert_array_equal(histogram.counts, whole.counts)


@given(part=numbers)
def test_every_number_is_in_its_bin(part: list[float]) -> None:
    histogram = counted([part])
    exact = np.array(part, np.float32).astype(np.float64)
    assert histogram.counts.sum() == len(part)
    assert (histogram.low, histogram.high) == (exact.min(), exact.max())
    edges = histogram.centers() - histogram.width / 2
    for number in exact:
        bin_ = np.searchsorted(edges, number, side="right") - 1
        assert histogram.counts[bin_] == np.sum(
            (exact >= edges[bin_]) & (exact < edges[bin_] + histogram.width)
        )
    largest = np.abs(exact).max()
    if largest > 1e-36:  # fine enough for 255 steps
        assert largest / histogram.width >= BINS / 2


def test_from_the_smallest_numbers_to_the_largest() -> None:
    histogram = counted([[0.0, 1e-45, -1e-45], [1.0], [3e38, -3e38]])
    middle = histogram.counts[BINS - 1 : BINS + 1]
    assert middle.tolist() == [1, 3]  # what is next to 0 now, on its own side
    assert histogram.counts.sum() == 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_whole(bad: float) -> None:
    histogram = counted([[1.0, 2.0]])
    before = histogram.counts.copy()
    assert not histogram.add(np.array([3, bad], np.float32))
    np.testing.assert_array_equal(histogram.counts, before)
    assert histogram.high == 2
