"""What a network sees of a frame, against the road over RGB, resized without rounding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lushan.image.color import BT601, BT709
from lushan.image.frame_input import frame_input
from lushan.image.preprocess import Preprocessing
from lushan.image.raw_frame import RAW_FORMATS, Frame
from lushan.image.resize import INTERPOLATIONS
from support.frames import frame_of, random_frame


def levels(values: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Undo the normalisation: values of a network's input as 0 … 255."""
    return 255 * (values * np.array(preprocessing.std) + np.array(preprocessing.mean))


def over_rgb(frame: Frame, preprocessing: Preprocessing) -> np.ndarray:
    """Return what the road over a full-size RGB picture gives, in levels, nothing rounded after."""
    rgb = frame.to_rgb()
    place = preprocessing.place((frame.width, frame.height))
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    left, top, width, height = place.crop
    whole = np.stack(
        [
            np.array(
                Image.fromarray(rgb[..., c].astype(np.float32)).resize(place.resized, resample)
            )
            for c in range(3)
        ],
        axis=-1,
    )
    result = np.empty((height, width, 3))
    result[...] = place.fill
    x0, y0 = max(left, 0), max(top, 0)
    part = whole[y0 : max(top + height, 0), x0 : max(left + width, 0)]
    result[y0 - top :, x0 - left :][: part.shape[0], : part.shape[1]] = part
    return np.clip(result, 0, 255)


def smooth_picture(width: int, height: int) -> np.ndarray:
    """Return a picture with colours that RGB and Y′CbCr both have, and edges."""
    small = np.random.default_rng(2).integers(
        40, 216, (height // 8 + 2, width // 8 + 2, 3), np.uint8
    )
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(320, 180), (181, 263), (40, 31), (64, 64)])
@pytest.mark.parametrize("name", RAW_FORMATS)
def test_every_format_is_the_road_over_rgb(name, size, interpolation) -> None:
    preprocessing = Preprocessing(height=48, width=64, interpolation=interpolation)
    picture = smooth_picture(*size)
    for standard, value_range, siting in ((BT601, "full", "center"), (BT709, "limited", "left")):
        meaning = {"standard": standard, "value_range": value_range, "siting": siting}
        frame = frame_of(picture, name, **meaning)
        got = levels(frame_input(frame, preprocessing), preprocessing)
        difference = np.abs(got - over_rgb(frame, preprocessing))
        # The road over RGB rounds RGB to 8 bits, by ½ at most, and interpolated chroma before: ½
        # times 2.12, its weight in blue. Lanczos on both axes makes that more, by 2 or so.
        chroma = 0 if name in ("RGB24", "GREY", "I444") else 1.7
        rounding = {"RGB24": 0.05, "GREY": 0.8}.get(name, 1.0)
        assert difference.max() <= rounding + chroma
        assert difference.mean() <= (0.6 if interpolation in ("nearest", "box") else 0.5)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(300, 20), (20, 300), (7, 5), (1, 1), (1, 200)])
def test_frames_are_placed_as_pictures_are(size, mode) -> None:
    preprocessing = Preprocessing(height=32, width=40, interpolation="bilinear", crop_mode=mode)
    frame = random_frame("RGB24", *size)
    got = levels(frame_input(frame, preprocessing), preprocessing)
    assert np.abs(got - over_rgb(frame, preprocessing)).max() <= 0.3


def test_photographs_of_full_hd_within_a_level(photos) -> None:
    preprocessing = Preprocessing(interpolation="bilinear")
    for path in photos:
        with Image.open(path) as opened:
            picture = opened.convert("RGB").resize((1920, 1080), Image.Resampling.BICUBIC)
        frame = frame_of(np.array(picture), "I444")
        got = levels(frame_input(frame, preprocessing), preprocessing)
        assert np.abs(got - over_rgb(frame, preprocessing)).max() <= 1


def test_a_frame_of_the_input_s_own_size_is_its_pixels() -> None:
    preprocessing = Preprocessing(height=20, width=24, crop_pct=1.0)
    frame = random_frame("RGB24", 24, 20)
    got = levels(frame_input(frame, preprocessing), preprocessing)
    np.testing.assert_allclose(got, frame.to_rgb(), atol=1e-4)
