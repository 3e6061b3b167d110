"""The kernel that resizes pictures has the bits of Pillow, and stays within their memory."""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lushan.cpu import picture_input
from lushan.cpu.picture_input import PictureReader
from lushan.cpu.resize_tables import make_tables
from lushan.cpu.target import Target, detect
from lushan.image import pillow_memory
from lushan.image.decode import Picture, decode
from lushan.image.pillow_memory import lends, rgb_in_place
from lushan.image.preprocess import Preprocessing
from lushan.image.resize import INTERPOLATIONS
from support.guarded_memory import guarded

pytestmark = pytest.mark.skipif(not lends(), reason="this Pillow does not lend its memory")


def picture(width: int, height: int, seed: int = 0) -> Picture:
    random = np.random.default_rng(seed)
    return decode(random.integers(0, 256, (height, width, 3), np.uint8))


def check(given: Picture, preprocessing: Preprocessing, target: Target) -> None:
    got = PictureReader(preprocessing, target)(given)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, preprocessing(given))


@settings(max_examples=150)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.floats(0.3, 1.0)),
    st.sampled_from(INTERPOLATIONS),
    st.sampled_from(["center", "squash", "border"]),
)
def test_every_size(target, size, wanted, interpolation, mode) -> None:
    height, width, crop_pct = wanted
    preprocessing = Preprocessing(
        height=height,
        width=width,
        crop_pct=crop_pct,
        interpolation=interpolation,
        crop_mode=mode,
    )
    check(picture(*size), preprocessing, target)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (1280, 960), (97, 1500)])
def test_pictures_of_cameras(size, interpolation, target) -> None:
    check(picture(*size), Preprocessing(interpolation=interpolation), target)


@pytest.mark.parametrize("value", [0, 255])
def test_sharp_edges_are_cut_at_black_and_white(value, target) -> None:
    """A bicubic filter overshoots there."""
    stripes = np.where(np.indices((120, 160)).sum(0) // 9 % 2, value, 255 - value)
    given = decode(np.repeat(stripes.astype(np.uint8)[..., None], 3, axis=2))
    check(given, Preprocessing(height=100, width=100), target)


def test_what_other_processors_run_has_the_same_bits() -> None:
    class Plain(Target):
        is_x86 = False

    plain = Plain(**{**vars(detect("generic")), "lanes": 4})
    for size in ((200, 150), (31, 17)):
        check(picture(*size), Preprocessing(height=24, width=40), plain)


@pytest.mark.parametrize("piece", [1, 4 * 300 * 31])
def test_large_pictures_in_pieces(piece, target, monkeypatch) -> None:
    """As a picture beyond 16 MiB is: Pillow does not lend it whole."""
    lent = []

    def lend_parts(image: Image.Image) -> np.ndarray | None:
        if image.size == (300, 200):
            return None
        lent.append(image.height)
        return rgb_in_place(image)

    monkeypatch.setattr(pillow_memory, "rgb_in_place", lend_parts)
    monkeypatch.setattr(pillow_memory, "PIECE_BYTES", piece)
    check(picture(300, 200), Preprocessing(height=40, width=40, crop_pct=1.0), target)
    rows = max(target.lanes // 4, piece // (4 * 300))
    assert lent == [rows] * -(-200 // rows)


def test_a_picture_that_pillow_has_in_several_pieces() -> None:
    large = picture(2500, 2000)
    assert rgb_in_place(large.image) is None
    check(large, Preprocessing(height=64, width=64), detect())


def test_without_lending_pillow_resizes(monkeypatch) -> None:
    given, preprocessing = picture(90, 70), Preprocessing(height=32, width=32)
    expected = preprocessing(given)
    monkeypatch.setattr(PIL, "__version__", "12.2.0")
    np.testing.assert_array_equal(PictureReader(preprocessing)(given), expected)


def test_pillow_is_asked_only_where_it_must_be(monkeypatch) -> None:
    preprocessing = Preprocessing(height=32, width=32, interpolation="bilinear")
    reader = PictureReader(preprocessing)
    asked = []
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, *_, **__: asked.append(image.size) or image
    )
    for size in ((500, 375), (64, 48), (20, 20), (1000, 40)):
        reader(picture(*size))
    assert asked == []
    reader(picture(3, 3))
    assert asked == [(3, 3)]


@pytest.mark.parametrize("size", [(333, 45), (64, 64), (33, 50)])
@pytest.mark.parametrize("mode", ["squash", "center", "border"])
def test_no_byte_beyond_the_picture_is_read(size, mode, target, monkeypatch) -> None:
    given = picture(*size)
    pixels = rgb_in_place(given.image)
    assert pixels is not None
    for flipped in (False, True):  # the forbidden page behind the pixels, and before them
        memory = guarded(pixels, before=flipped)
        monkeypatch.setattr(pillow_memory, "rgb_in_place", lambda image, memory=memory: memory)
        check(given, Preprocessing(height=20, width=24, crop_mode=mode, crop_pct=1.0), target)


@pytest.mark.parametrize(("width", "height"), [(200, 200), (400, 300), (300, 3)])
def test_a_picture_that_changes_meanwhile_is_left_alone(width, height, monkeypatch) -> None:
    """By another thread: the tables are of its old size."""
    changed = picture(width, height).image
    monkeypatch.setattr(pillow_memory, "rgb_in_place", lambda _: rgb_in_place(changed))
    reader = PictureReader(Preprocessing(height=24, width=24, crop_pct=1.0))
    given = picture(300, 200)
    np.testing.assert_array_equal(reader(given), reader._preprocessing(given))


def test_tables_of_very_wide_pictures_are_not_made(monkeypatch) -> None:
    preprocessing = Preprocessing(height=24, width=24, crop_mode="squash")
    assert make_tables((65_537, 4), preprocessing, 16) is None
    wide = make_tables((65_000, 4), preprocessing, 16)
    assert wide is not None
    monkeypatch.setattr(picture_input, "_BYTES_KEPT", 3 * wide.bytes)
    reader = PictureReader(preprocessing, detect())
    for width in range(65_000, 65_010):
        given = picture(width, 4)
        np.testing.assert_array_equal(reader(given), preprocessing(given))
    assert 1 <= len(reader._by_size) <= 3


def test_many_threads_and_more_sizes_than_are_remembered(target, monkeypatch) -> None:
    monkeypatch.setattr(picture_input, "_SIZES_KEPT", 5)
    preprocessing = Preprocessing(height=24, width=24)
    reader = PictureReader(preprocessing, target)
    pictures = [picture(30 + n % 20, 40, seed=n) for n in range(80)]
    expected = [preprocessing(given) for given in pictures]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(reader, pictures), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_pictures_are_freed() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    reader = PictureReader(Preprocessing(height=24, width=24))
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    for _ in range(5):
        reader(decode(pixels))
    before = resident()
    for _ in range(50):  # of 4 MB
        reader(decode(pixels))
    assert resident() - before < 40e6
