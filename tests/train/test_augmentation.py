"""Augmentation: what each kind may do to a picture, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lushan.errors import UsageError
from lushan.image.decode import decode
from lushan.image.preprocess import Preprocessing
from lushan.train.augmentation import Augmentation, at_size, mix

SQUARE = Preprocessing(8, 8, crop_pct=1.0)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def test_without_any_it_is_what_recognition_sees() -> None:
    plain = Augmentation("none", flip=0)
    for preprocessing in (SQUARE, Preprocessing(8, 12), Preprocessing(8, 8, crop_pct=0.5)):
        for shape in ((8, 8), (20, 30), (8, 12)):
            pixels = noise(*shape)
            varied = plain(pixels, preprocessing, np.random.default_rng(0))
            np.testing.assert_array_equal(varied, preprocessing.pixels(decode(pixels)))
            np.testing.assert_array_equal(at_size(pixels, preprocessing), varied)


def test_flip() -> None:
    pixels = noise(8, 8)
    for probability, expected in ((0, [pixels]), (1, [pixels[:, ::-1]])):
        varied = Augmentation("none", flip=probability)(pixels, SQUARE, np.random.default_rng(0))
        np.testing.assert_array_equal(varied, expected[0])
    half = Augmentation("none", flip=0.5)
    random = np.random.default_rng(1)
    count = sum(np.array_equal(half(pixels, SQUARE, random), pixels) for _ in range(400))
    assert 160 < count < 240


def test_padded_is_every_shift_and_black_comes_in() -> None:
    pixels = noise(8, 8)
    padded = np.zeros((8 + 2 * 2, 8 + 2 * 2, 3), np.uint8)
    padded[2:10, 2:10] = pixels
    shifts = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(5) for x in range(5)}
    augment = Augmentation("padded", padding=2, flip=0)
    random = np.random.default_rng(0)
    seen = [shifts[augment(pixels, SQUARE, random).tobytes()] for _ in range(600)]
    counts = np.bincount([5 * y + x for y, x in seen], minlength=25)
    assert counts.min() > 5  # all 25, 24 times each on average


def test_a_larger_shift_than_the_picture() -> None:
    augment = Augmentation("padded", padding=20, flip=0)
    random = np.random.default_rng(0)
    shown = [augment(noise(8, 8), SQUARE, random) for _ in range(50)]
    assert any(not picture.any() for picture in shown)
    assert any(picture.any() for picture in shown)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1000))
def test_resized_crops_keep_to_area_and_ratio(height: int, width: int, seed: int) -> None:
    augment = Augmentation("resized", scale=(0.3, 0.8), ratio=(0.5, 2.0))
    left, top, right, bottom = augment._box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    w, h = right - left, bottom - top
    if min(height, width) >= 16 and max(height, width) < 1.5 * min(height, width):
        assert 0.25 < w * h / (width * height) < 0.87
        assert 0.44 < w / h < 2.3
    result = augment(noise(height, width), SQUARE, np.random.default_rng(seed))
    assert result.shape == (8, 8, 3)


def test_long_pictures_get_their_middle() -> None:
    augment = Augmentation("resized", scale=(1, 1), ratio=(1, 1))
    assert augment._box(1000, 10, np.random.default_rng(0)) == (495, 0, 505, 10)
    assert augment._box(1, 500, np.random.default_rng(0)) == (0, 249, 1, 250)


def test_the_whole_picture_is_resized_as_pillow_does() -> None:
    pixels = noise(20, 20)
    augment = Augmentation("resized", scale=(1, 1), ratio=(1, 1), flip=0)
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(augment(pixels, SQUARE, np.random.default_rng(0)), expected)


def test_mixing() -> None:
    random = np.random.default_rng(0)
    pictures = random.standard_normal((6, 2, 2, 3), np.float32)
    targets = np.eye(6, dtype=np.float32)
    weights = []
    for seed in range(200):
        mixed, rows = mix(pictures, targets, 1.0, np.random.default_rng(seed))
        weight = rows[0, 0]
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(
            mixed[0], weight * pictures[0] + (1 - weight) * pictures[5], atol=1e-6
        )
        assert mixed.dtype == rows.dtype == np.float32
        weights.append(weight)
    assert 0.4 < np.mean(weights) < 0.6
    assert min(weights) < 0.05
    assert max(weights) > 0.95


def test_numbers_that_cannot_be() -> None:
    for values, message in (
        ({"crop": "random"}, "augmentation.crop should be one of resized, padded, none"),
        ({"scale": (0.5, 0.2)}, "augmentation.scale should be a number from 0.5 to 1"),
        ({"ratio": "4/3"}, "augmentation.ratio should be two numbers; received '4/3'"),
        ({"padding": 1.5}, "augmentation.padding should be a whole number"),
        ({"flip": 2}, "augmentation.flip should be a number from 0 to 1; received 2"),
        ({"mixup": True}, "augmentation.mixup should be a number"),
        ({"interpolation": "sinc"}, "augmentation.interpolation should be one of nearest"),
    ):
        with pytest.raises(UsageError, match=message):
            Augmentation(**values)
