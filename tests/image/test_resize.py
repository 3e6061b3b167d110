"""Resize and crop: equal to Pillow's resize of everything, at a fraction of the memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lushan.image import resize
from lushan.image.resize import INTERPOLATIONS, resize_and_crop


def noise(width: int, height: int) -> Image.Image:
    """Return a picture of random pixels: the hardest one to resize unnoticed."""
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def everything_first(image, resized, crop, interpolation) -> np.ndarray:
    """Return the crop of the whole resized image."""
    left, top, width, height = crop
    whole = image.resize(resized, Image.Resampling[interpolation.upper()])
    return np.asarray(whole.crop((left, top, left + width, top + height)))


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(-5, 60), st.integers(-5, 60), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(sorted(INTERPOLATIONS)),
)
def test_ordinary_sizes_equal_pillow_bit_for_bit(size, resized, crop, interpolation):
    found = resize_and_crop(noise(*size), resized, crop, interpolation)
    expected = everything_first(noise(*size), resized, crop, interpolation)
    assert np.array_equal(np.asarray(found), expected)  # beyond the edges, both are black


@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
@pytest.mark.parametrize(
    ("size", "resized", "crop"),
    [
        ((3, 2000), (64, 42666), (4, 21305, 56, 56)),  # larger across and down
        ((5000, 40), (8000, 64), (3972, 4, 56, 56)),
        ((4000, 300), (853, 64), (398, 4, 56, 56)),  # smaller: the filter reaches far
        ((300, 4000), (64, 853), (0, 0, 64, 64)),  # at the edge
    ],
)
def test_a_part_equals_the_whole_to_one(monkeypatch, interpolation, size, resized, crop):
    expected = everything_first(noise(*size), resized, crop, interpolation)
    monkeypatch.setattr(resize, "_WHOLE_PIXELS", 1)
    monkeypatch.setattr(resize, "_FAIR_PART", 1)
    found = np.asarray(resize_and_crop(noise(*size), resized, crop, interpolation))
    difference = np.abs(found.astype(int) - expected)
    if interpolation == "nearest":  # the other neighbour where a centre falls between two pixels
        assert np.mean(difference > 0) < 0.05
    else:
        assert difference.max() <= 1


def test_the_fill_colour_surrounds_a_smaller_picture():
    red = Image.new("RGB", (4, 2), (255, 0, 0))
    found = np.asarray(resize_and_crop(red, (4, 2), (-1, -2, 6, 6), "bilinear", (1, 2, 3)))
    assert found.shape == (6, 6, 3)
    assert (found[2:4, 1:5] == (255, 0, 0)).all()
    found = found.copy()
    found[2:4, 1:5] = (1, 2, 3)
    assert (found == (1, 2, 3)).all()


def test_a_crop_beside_the_picture_is_all_fill():
    found = resize_and_crop(noise(4, 4), (4, 4), (10, 0, 2, 2), "bilinear", (7, 8, 9))
    assert (np.asarray(found) == (7, 8, 9)).all()


def test_columns_first_where_rows_first_takes_too_much_memory():
    """Some versions of Pillow would keep 4000 × 100,000 pixels between the two passes."""
    ramp = np.linspace(0, 255, 100_000).round().astype(np.uint8)
    tall = Image.fromarray(np.repeat(ramp[:, None, None], 3, axis=2))
    found = np.asarray(resize_and_crop(tall, (4000, 8), (0, 0, 4000, 8), "bilinear"))
    centers = 255 * (np.arange(8) + 0.5) / 8
    assert np.abs(found[1:-1, :, 0] - centers[1:-1, None]).max() <= 1
