"""Videos that tests make, with PyAV, of pictures they know."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

RATE = 25


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    each: int = 1,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    **options: str,
) -> Path:
    """Write every picture, uint8 [H, W, 3], for ``each`` frames and return ``path``."""
    av = pytest.importorskip("av")
    height, width = pictures[0].shape[:2]
    quality = {"crf": "12"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={**quality, **options})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = Fraction(1, RATE)
        for picture in pictures:
            for _ in range(each):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


def on_screen(photo: Path, width: int = 1920, height: int = 1080) -> np.ndarray:
    """Return a photograph, whole and as large as it fits a screen, on grey: uint8 [H, W, 3]."""
    with Image.open(photo) as image:
        fitted = ImageOps.pad(image.convert("RGB"), (width, height), color=(124, 116, 104))
    return np.asarray(fitted)


def turn(path: Path) -> None:
    """Have the players of an MP4 turn it by a quarter clockwise, as a telephone held upright does.

    The matrix of its track header (ISO/IEC 14496-12, 8.3.2) is written over: 16.16 numbers.
    """
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes before the matrix
    one = 1 << 16
    data[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
