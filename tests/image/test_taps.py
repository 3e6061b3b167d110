"""Filters as tables: what Pillow's resize gives, sums of one, chroma through its interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lushan.image.color import upsample
from lushan.image.resize import INTERPOLATIONS
from lushan.image.taps import ONE, Taps, of_half_samples, resampling, spread

SIZES = st.integers(1, 300)
FILTERS = st.sampled_from(INTERPOLATIONS)


def applied(taps: Taps, source: np.ndarray) -> np.ndarray:
    places = taps.starts[:, None] + np.arange(taps.weights.shape[1])
    inside = np.minimum(places, len(source) - 1)
    assert not taps.weights[places != inside].any(), "a weight beyond the source"
    return (taps.weights * source[inside]).sum(axis=1)


@given(SIZES, SIZES, FILTERS, st.integers(0, 2**32 - 1))
def test_a_line_is_resized_as_pillow_does(source, resized, name, seed):
    line = np.random.default_rng(seed).uniform(0, 255, source).astype(np.float32)
    picture = Image.fromarray(line[None])  # 32-bit floats: Pillow rounds nothing
    expected = np.array(picture.resize((resized, 1), Image.Resampling[name.upper()]))[0]
    got = applied(resampling(source, resized, 0, resized, name), line)
    np.testing.assert_allclose(got, expected, atol=1e-3)


@given(SIZES, SIZES, FILTERS, st.data())
def test_a_part_is_that_part_of_the_whole(source, resized, name, data):
    first = data.draw(st.integers(0, resized - 1))
    count = data.draw(st.integers(1, resized - first))
    line = np.random.default_rng(1).uniform(0, 255, source)
    whole = applied(resampling(source, resized, 0, resized, name), line)
    part = applied(resampling(source, resized, first, count, name), line)
    np.testing.assert_array_equal(part, whole[first : first + count])


@given(st.integers(1, 5000), SIZES, FILTERS)
def test_whole_weights_sum_to_one_and_keep_within_bounds(source, resized, name):
    taps = resampling(source, resized, 0, resized, name)
    whole = taps.rounded()
    assert (whole.sum(axis=1) == ONE).all()
    assert np.abs(whole - taps.weights * ONE).max() <= 1
    # What the kernel relies on: sums of 16 bits between the passes, and weights of two bytes.
    assert np.abs(whole).sum(axis=1).max() <= 2 * ONE
    assert np.abs(whole).max() < 127 * 256


@given(SIZES, SIZES, FILTERS, st.booleans(), st.integers(0, 2**32 - 1))
def test_half_the_samples_are_the_whole_line_interpolated(source, resized, name, left, seed):
    samples = np.random.default_rng(seed).integers(0, 64, (source + 1) // 2) * 4
    plane = samples.astype(np.uint8)[None]  # multiples of 4: the interpolation rounds nothing
    siting = "left" if left else "center"
    line = upsample(plane, source, 1, "4:2:2", siting)[0]
    taps = resampling(source, resized, 0, resized, name)
    halved = of_half_samples(taps, source, on_samples=left)
    np.testing.assert_allclose(applied(halved, samples), applied(taps, line), atol=1e-9)


@pytest.mark.parametrize(("step", "offset"), [(1, 0), (2, 1), (3, 2), (4, 3)])
def test_spread_taps_take_every_so_many_samples(step, offset):
    line = np.random.default_rng(3).uniform(0, 1, 40 * step)
    taps = resampling(40, 13, 0, 13, "bicubic")
    expected = applied(taps, line[offset::step])
    np.testing.assert_allclose(applied(spread(taps, step, offset), line), expected, atol=1e-12)
