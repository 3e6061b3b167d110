"""Hostile files do not keep a decoder for long."""

from __future__ import annotations

import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lushan.errors import PictureError, PictureTooLargeError
from lushan.image.decode import MAX_SCANS, decode
from lushan.image.timed_file import TimedFile


def test_a_file_whose_time_is_over_cannot_be_read() -> None:
    file = TimedFile(b"abc\n", "a.gif", 60)
    assert (file.readline(), file.seek(0), file.read(2), file.readinto(bytearray(1))) == (
        b"abc\n", 0, b"ab", 1,
    )  # fmt: skip
    over = TimedFile(b"abc", "a.gif", -1)
    for use in (over.read, over.readline, lambda: over.seek(0), lambda: over.readinto(b"")):
        with pytest.raises(PictureError, match=r"a.gif: decoding it takes longer than -1 s"):
            use()


def test_a_million_frames_are_given_up() -> None:
    frames = [Image.new("L", (2, 2), value) for value in (0, 255)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    start = data.rindex(b"\x21\xf9")  # the last frame, from its control block on
    data = data[:-1] + data[start:-1] * 400_000 + b";"
    begin = time.monotonic()
    with pytest.raises(PictureError, match=r"takes longer than 0\.2 s"):
        decode(data, seconds=0.2)
    assert time.monotonic() - begin < 5


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    random = np.random.default_rng(0)
    file = BytesIO()
    Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(
        file, "JPEG", progressive=True
    )
    data = file.getvalue()
    assert decode(data, seconds=60).report.width == 64
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(PictureError, match=f"scans, more than {MAX_SCANS}"):
        decode(data[:-2] + scan * MAX_SCANS + b"\xff\xd9", seconds=60)


def test_size_has_an_error_of_its_own() -> None:
    with pytest.raises(PictureTooLargeError, match="more than 3 pixels"):
        decode(np.zeros((2, 2, 3), np.uint8), max_pixels=3)
