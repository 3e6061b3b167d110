"""Raw video frames: sizes, the bytes in their order, strides, and round trips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.image.color import BT709, chroma_size
from lushan.image.frame import (
    FORMAT_NAMES,
    Planes,
    frame_format,
    frame_size,
    frame_to_rgb,
    pack,
    rgb_to_frame,
    unpack,
)


def planes_of(format_name: str, width: int, height: int) -> Planes:
    """Return planes whose samples differ: Y′ from 1 on, Cb from 101 on, Cr from 201 on."""
    small = chroma_size(width, height, frame_format(format_name).sampling)

    def counting(size: tuple[int, int], start: int) -> np.ndarray:
        return (np.arange(size[0] * size[1], dtype=np.uint8) + start).reshape(size[::-1])

    return Planes(counting((width, height), 1), counting(small, 101), counting(small, 201))


def test_sizes_of_full_hd():
    rgb = 1920 * 1080 * 3
    assert frame_size("I444", 1920, 1080) == rgb
    for name in ("I422", "NV16", "YUYV", "UYVY"):
        assert frame_size(name, 1920, 1080) == 4050 * 1024 == rgb * 2 // 3
    assert round(4050 / 1024, 2) == 3.96  # MiB
    for name in ("I420", "NV12"):
        assert frame_size(name, 1920, 1080) == rgb // 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("I444", [1, 2, 3, 4, 101, 102, 103, 104, 201, 202, 203, 204]),
        ("I422", [1, 2, 3, 4, 101, 102, 201, 202]),
        ("I420", [1, 2, 3, 4, 101, 201]),
        ("NV16", [1, 2, 3, 4, 101, 201, 102, 202]),
        ("NV12", [1, 2, 3, 4, 101, 201]),
        ("YUYV", [1, 101, 2, 201, 3, 102, 4, 202]),
        ("UYVY", [101, 1, 201, 2, 102, 3, 202, 4]),
    ],
)
def test_the_order_of_the_bytes_of_two_by_two_pixels(name, expected):
    assert pack(planes_of(name, 2, 2), name).tolist() == expected


@given(st.sampled_from(FORMAT_NAMES), st.integers(1, 7), st.integers(1, 5))
def test_packing_and_unpacking_is_exact(name, width, height):
    planes = planes_of(name, width, height)
    frame = pack(planes, name)
    assert frame.size == frame_size(name, width, height)
    for buffer in (frame, frame.tobytes(), memoryview(frame.tobytes() + b"rest")):
        found = unpack(buffer, name, width, height)
        assert np.array_equal(found.y, planes.y)
        assert np.array_equal(found.cb, planes.cb)
        assert np.array_equal(found.cr, planes.cr)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_padded_rows(name):
    width, height, stride = 6, 4, 16
    layout, planes = frame_format(name), planes_of(name, width, height)
    tight = pack(planes, name)
    luma = layout.row_bytes(width) * height
    rows = [np.pad(tight[:luma].reshape(height, -1), ((0, 0), (0, 16 - luma // height)))]
    if layout.kind != "packed":
        chroma = tight[luma:].reshape(-1, layout.chroma_row_bytes(width))
        padding = layout.chroma_stride(width, stride) - chroma.shape[1]
        rows.append(np.pad(chroma, ((0, 0), (0, padding))))
    padded = np.concatenate([part.ravel() for part in rows])
    assert padded.size == frame_size(name, width, height, stride)
    found = unpack(padded, name, width, height, stride)
    assert np.array_equal(found.y, planes.y)
    assert np.array_equal(found.cb, planes.cb)
    assert np.array_equal(found.cr, planes.cr)


def test_chroma_rows_are_padded_in_proportion():
    assert frame_size("NV12", 6, 4, stride=16) == 16 * 4 + 16 * 2
    assert frame_size("I420", 6, 4, stride=16) == 16 * 4 + 2 * 8 * 2
    assert frame_size("I444", 6, 4, stride=16) == 3 * 16 * 4
    assert frame_size("NV12", 5, 3) == 5 * 3 + 6 * 2  # an odd width: a chroma row is longer


def test_unpacking_copies_nothing():
    frame = np.zeros(frame_size("YUYV", 4, 4), dtype=np.uint8)
    planes = unpack(frame, "YUYV", 4, 4)
    assert all(np.shares_memory(plane, frame) for plane in (planes.y, planes.cb, planes.cr))


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("value_range", ["full", "limited"])
def test_rgb_round_trip_of_smooth_colours(name, value_range):
    """Where colours change slowly, subsampled chroma costs no more than rounding."""
    across, down = np.meshgrid(np.arange(33), np.arange(17))
    rgb = np.stack([60 + 3 * across, 90 + 2 * down, 200 - 2 * across], axis=-1).astype(np.uint8)
    options = {"standard": BT709, "value_range": value_range, "siting": "left"}
    back = frame_to_rgb(rgb_to_frame(rgb, name, **options), name, 33, 17, **options)
    assert back.shape == rgb.shape and back.dtype == np.uint8
    # The far edge repeats its last sample; inside, two roundings.
    assert np.abs(back.astype(int) - rgb)[1:-1, 2:-2].max() <= 3
    if name == "I444":
        assert np.abs(back.astype(int) - rgb).max() <= 2


def test_wrong_arguments_are_told():
    with pytest.raises(UsageError, match="'YV12' is not known; there are I444, I422"):
        frame_size("YV12", 4, 4)
    with pytest.raises(UsageError, match="NV12 frame of 4×4 takes 24 bytes, there are 23"):
        unpack(bytes(23), "NV12", 4, 4)
    with pytest.raises(UsageError, match="takes 8 bytes; the stride 7 is less"):
        unpack(bytes(99), "YUYV", 4, 4, stride=7)
    with pytest.raises(UsageError, match="0×4 has no pixels"):
        frame_size("I420", 0, 4)
    with pytest.raises(UsageError, match=r"I420 of 4×4 has chroma planes \[2, 2\], not \[4, 4\]"):
        pack(planes_of("I444", 4, 4), "I420")
