"""Frames as views of memory: every layout, stride and name, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

import lushan
from lushan.errors import PictureTooLargeError, UsageError
from lushan.image.color import BT601, BT709
from lushan.image.frame import FORMAT_NAMES, frame_to_rgb
from lushan.image.raw_frame import RAW_FORMATS, Frame, raw_format, raw_frame_size
from support.frames import frame_of, random_frame


@pytest.mark.parametrize("name", RAW_FORMATS)
@pytest.mark.parametrize("size", [(6, 4), (5, 3), (1, 1)])
@pytest.mark.parametrize("padding", [0, 10])
def test_a_frame_shows_what_its_bytes_mean(name, size, padding) -> None:
    frame = random_frame(name, *size, padding=padding, standard=BT709, siting="center")
    rgb = frame.to_rgb()
    assert rgb.shape == (size[1], size[0], 3)
    if name in FORMAT_NAMES:
        buffer = frame.planes[0].base
        while buffer.base is not None:
            buffer = buffer.base
        stride = frame.planes[0].strides[0]
        meaning = {"standard": BT709, "value_range": "limited", "siting": "center"}
        np.testing.assert_array_equal(rgb, frame_to_rgb(buffer, name, *size, stride, **meaning))
    elif name == "GREY":
        np.testing.assert_array_equal(rgb, np.repeat(frame.planes[0][..., None], 3, axis=2))
    else:
        np.testing.assert_array_equal(rgb.reshape(size[1], -1), frame.planes[0])


def test_grey_of_limited_range_is_stretched() -> None:
    frame = Frame.from_bytes(bytes([16, 235, 0, 255]), "GREY", 4, 1, value_range="limited")
    assert frame.to_rgb()[0, :, 0].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_nothing_is_copied(name) -> None:
    buffer = bytearray(raw_frame_size(name, 8, 6))
    frame = Frame.from_bytes(buffer, name, 8, 6)
    buffer[:] = b"\x07" * len(buffer)
    assert all((plane == 7).all() for plane in frame.planes)
    again = Frame.from_planes(name, frame.planes, 8, 6)
    for plane, first in zip(again.planes, frame.planes, strict=True):
        assert np.shares_memory(plane, first)


def test_planes_may_be_larger_and_upside_down() -> None:
    y, chroma = np.arange(80, dtype=np.uint8).reshape(8, 10), np.zeros((9, 20), np.uint8)
    frame = Frame.from_planes("NV12", [y[::-1], chroma], 7, 5)
    assert [plane.shape for plane in frame.planes] == [(5, 7), (3, 8)]
    assert frame.planes[0][0, 0] == 70


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nv12", "NV12"),
        ("yuv420p", "I420"),
        ("Gray8", "GREY"),
        ("yuyv422", "YUYV"),
        ("YUY2", "YUYV"),
    ],
)
def test_formats_have_the_names_of_other_programs(name, known) -> None:
    assert raw_format(name) == known


def test_what_is_not_said_is_guessed_as_players_do() -> None:
    assert random_frame("NV12", 4, 719).standard == BT601
    assert random_frame("NV12", 4, 720).standard == BT709
    assert random_frame("NV12", 4, 4).value_range == "limited"
    assert random_frame("RGB24", 4, 4).value_range == "full"


def test_the_report_of_a_frame(model_folder) -> None:
    with lushan.load(model_folder, threads=1) as recognizer:
        report = recognizer.classify(random_frame("NV12", 40, 30)).report
    assert (report.source, report.format, report.mode) == ("<frame>", "NV12", "YCbCr")
    assert (report.width, report.height, report.frames) == (40, 30, 1)


def make(**changes: object) -> Frame:
    given = {"buffer": bytes(24), "format": "NV12", "width": 4, "height": 4, **changes}
    return Frame.from_bytes(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "P010"}, "frame format 'P010' is not known; there are I444, .*RGB24"),
        ({"width": 0}, "a frame of 0×4 has no pixels"),
        ({"height": -1}, "a frame of 4×-1 has no pixels"),
        ({"buffer": bytes(23)}, "a NV12 frame of 4×4 takes 24 bytes, there are 23"),
        ({"buffer": b""}, "takes 24 bytes, there are 0"),
        ({"stride": 3}, "a NV12 row of 4 pixels takes 4 bytes; the stride 3 is less"),
        ({"format": "RGB24", "stride": 11}, "takes 12 bytes; the stride 11 is less"),
        ({"value_range": "wide"}, "range should be one of full, limited; received 'wide'"),
        ({"siting": "right"}, "siting should be one of left, center; received 'right'"),
        ({"width": 70_000, "height": 1}, "70000×1: no side may be over 65535 pixels"),
    ],
)
def test_what_is_no_frame_is_named(changes, message) -> None:
    with pytest.raises((UsageError, PictureTooLargeError), match=message):
        make(**changes)


def test_a_frame_is_not_larger_than_a_picture_may_be() -> None:
    with pytest.raises(PictureTooLargeError, match="60000×60000 is more than"):
        make(width=60_000, height=60_000)


def test_planes_that_do_not_fit_are_named() -> None:
    y, chroma = np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8)
    with pytest.raises(UsageError, match="NV12 has 2 planes; received 1"):
        Frame.from_planes("NV12", [y], 4, 4)
    with pytest.raises(UsageError, match=r"uint8 \[2, 4\] or larger; received uint8 \[2, 3\]"):
        Frame.from_planes("NV12", [y, chroma[:, :3]], 4, 4)
    with pytest.raises(UsageError, match=r"received int16 \[4, 4\]"):
        Frame.from_planes("NV12", [y.astype(np.int16), chroma], 4, 4)
    wide = np.zeros((4, 8), np.uint8)
    with pytest.raises(UsageError, match=r"strides \[8, 2\]"):
        Frame.from_planes("NV12", [wide[:, ::2], chroma], 4, 4)


def test_a_frame_of_a_picture_shows_it_again() -> None:
    rgb = np.full((4, 6, 3), (163, 171, 214), np.uint8)
    for name in FORMAT_NAMES:
        assert np.abs(frame_of(rgb, name).to_rgb().astype(int) - rgb).max() <= 1
