"""Frames of random bytes, and frames that show a given picture."""

from __future__ import annotations

import numpy as np

from lushan.image.color import BT601, Range, Siting, Standard
from lushan.image.frame import FORMAT_NAMES, rgb_to_frame
from lushan.image.raw_frame import GREY, RGB24, Frame, raw_frame_size


def random_frame(
    format_name: str, width: int, height: int, *, padding: int = 0, seed: int = 0, **meaning: object
) -> Frame:
    """Return a frame of random bytes whose rows have so many bytes of padding."""
    tight = len(random_row(format_name, width))
    stride = tight + padding
    size = raw_frame_size(format_name, width, height, stride)
    buffer = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    return Frame.from_bytes(buffer, format_name, width, height, stride, **meaning)


def random_row(format_name: str, width: int) -> bytes:
    """Return as many bytes as the first plane has in a row."""
    plane = Frame.from_bytes(
        bytes(raw_frame_size(format_name, width, 1)), format_name, width, 1
    ).planes[0]
    return plane.tobytes()


def frame_of(
    rgb: np.ndarray,
    format_name: str,
    *,
    standard: Standard = BT601,
    value_range: Range = "full",
    siting: Siting = "left",
) -> Frame:
    """Return the frame that shows ``rgb``, uint8 [H, W, 3]; in grey it shows its green."""
    height, width = rgb.shape[:2]
    meaning = {"standard": standard, "value_range": value_range, "siting": siting}
    if format_name in FORMAT_NAMES:
        data = rgb_to_frame(rgb, format_name, **meaning)
    else:
        assert format_name in (GREY, RGB24)
        data = np.ascontiguousarray(rgb if format_name == RGB24 else rgb[..., 1])
    return Frame.from_bytes(data, format_name, width, height, **meaning)
