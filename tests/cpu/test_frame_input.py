"""The kernel for raw frames has the bits of its definition, and stays within its memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu.frame_input import FrameReader
from lushan.cpu.target import Target, detect
from lushan.image.color import BT601, BT709
from lushan.image.frame_input import frame_input
from lushan.image.preprocess import Preprocessing
from lushan.image.raw_frame import RAW_FORMATS, Frame
from lushan.image.resize import INTERPOLATIONS
from support.frames import random_frame
from support.guarded_memory import guarded


def check(frame: Frame, preprocessing: Preprocessing, target: Target) -> None:
    got = FrameReader(preprocessing, target)(frame)
    np.testing.assert_array_equal(got, frame_input(frame, preprocessing))


@pytest.mark.parametrize("size", [(1920, 1080), (1919, 1079), (1080, 1920)])
@pytest.mark.parametrize("name", RAW_FORMATS)
def test_frames_of_cameras(name, size, target) -> None:
    check(random_frame(name, *size), Preprocessing(), target)


@settings(max_examples=100)
@given(
    st.sampled_from(RAW_FORMATS),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.floats(0.3, 1.0)),
    st.sampled_from(INTERPOLATIONS),
    st.sampled_from(["center", "squash", "border"]),
    st.integers(0, 70),
    st.sampled_from([(BT601, "full", "center"), (BT709, "limited", "left")]),
)
def test_every_size_and_stride(target, name, size, wanted, interpolation, mode, padding, meaning):
    height, width, crop_pct = wanted
    preprocessing = Preprocessing(
        height=height,
        width=width,
        crop_pct=crop_pct,
        interpolation=interpolation,
        crop_mode=mode,
    )
    standard, value_range, siting = meaning
    frame = random_frame(
        name, *size, padding=padding, standard=standard, value_range=value_range, siting=siting
    )
    check(frame, preprocessing, target)


@pytest.mark.parametrize("name", RAW_FORMATS)
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("interpolation", ["lanczos", "bilinear"])
def test_extremes_do_not_overflow(name, value, interpolation, target) -> None:
    frame = random_frame(name, 90, 70)
    stripes = [
        np.where(np.indices(p.shape).sum(0) // 3 % 2, value, 255 - value) for p in frame.planes
    ]
    frame = Frame.from_planes(name, [s.astype(np.uint8) for s in stripes], 90, 70)
    preprocessing = Preprocessing(height=33, width=50, interpolation=interpolation)
    check(frame, preprocessing, target)


def test_long_sides(target) -> None:
    preprocessing = Preprocessing(height=16, width=16)
    check(random_frame("NV12", 65_535, 3), preprocessing, target)
    check(random_frame("YUYV", 3, 65_535), preprocessing, target)


def test_planes_upside_down_and_apart(target) -> None:
    frame = random_frame("I420", 101, 77)
    flipped = Frame.from_planes("I420", [p[::-1] for p in frame.planes], 101, 77)
    check(flipped, Preprocessing(height=30, width=60, crop_mode="squash", crop_pct=1.0), target)


@pytest.mark.parametrize("name", RAW_FORMATS)
@pytest.mark.parametrize("width", [1, 63, 65, 130])
@pytest.mark.parametrize("flip", [False, True])
def test_nothing_is_read_past_the_end(name, width, flip, target) -> None:
    """Each plane ends where memory ends: a step further, and the process would."""
    frame = random_frame(name, width, 45)
    planes = [guarded(plane) for plane in frame.planes]
    if flip:
        planes = [plane[::-1] for plane in planes]
    at_the_end = Frame.from_planes(name, planes, width, 45)
    for mode in ("squash", "center"):
        check(at_the_end, Preprocessing(height=20, width=24, crop_mode=mode, crop_pct=1.0), target)


class Plain(Target):
    """An instruction set of this machine, of whose own instructions nothing is used."""

    is_x86 = False


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_what_other_processors_run_has_the_same_bits(name) -> None:
    plain = Plain(**{**vars(detect("generic")), "lanes": 4})
    for size in ((200, 150), (31, 17), (1, 1)):
        check(random_frame(name, *size), Preprocessing(height=24, width=40), plain)


def test_many_threads_and_more_kinds_than_are_remembered(target) -> None:
    preprocessing = Preprocessing(height=24, width=24)
    reader = FrameReader(preprocessing, target)
    frames = [random_frame("NV12", 30 + n % 20, 40, seed=n) for n in range(80)]
    expected = [frame_input(frame, preprocessing) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(reader, frames), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
