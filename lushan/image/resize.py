"""Resize and crop as Pillow does it, computing only what the crop keeps.

Networks are evaluated on pictures resized by Pillow (antialiased, 8-bit), and the last
bit of it shows in their scores, so ordinary pictures take exactly that road: resize all, then
crop. That road ends at extreme shapes: the shorter side of a 1×65535 picture brought to 256 makes
the longer one 16,776,960. There only the part that the crop keeps is resized. Differences are at
most 1 of 255, from the rounding of the part's edges (to 2⁻²⁴ of its extent); "nearest" may take
the other pixel where a target pixel's centre falls between two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image  # loaded with the first picture: scoring needs none

Size = tuple[int, int]  # width, height
Box = tuple[int, int, int, int]  # left, top, width, height

# Pillow's names of its ways to resample, in lower case.
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")

# Source pixels that a filter reads to each side of a target pixel, where it does not shrink.
_LARGEST_SUPPORT = 3  # Lanczos

# Up to this many pixels (64 MiB in Pillow) a picture is resized whole. An aspect of 1:256 still is,
# at 256 pixels of the shorter side.
_WHOLE_PIXELS = 1 << 24
# … and always where the crop keeps a fair part, however large the pictures a network wants.
_FAIR_PART = 8


def resize_and_crop(
    image: Image.Image,
    resized: Size,
    crop: Box,
    interpolation: str,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> Image.Image:
    """Return what ``image.resize(resized)`` followed by a crop to ``crop`` would return.

    ``image`` is RGB; ``resized`` is (width, height); ``crop`` is (left, top, width, height) in
    pixels of the resized image and may reach beyond it: that margin has the colour ``fill``.
    ``interpolation`` is one of ``INTERPOLATIONS``. Equal to Pillow bit for bit unless the
    resized image has more than 2²⁴ pixels and eight times those of the crop, or the image is
    over 2²⁴ / (resized width) pixels high; otherwise to ±1.
    """
    from PIL import Image

    left, top, width, height = crop
    first_x, first_y, *size = inside = inside_of(resized, crop)
    if not all(size):
        return Image.new("RGB", (width, height), fill)
    resample = Image.Resampling[interpolation.upper()]
    if _is_whole(resized, crop):
        whole = _resize(image, resized, (0, 0, *image.size), resample)
        part = whole.crop((first_x, first_y, first_x + size[0], first_y + size[1]))
    else:
        part = _resize_part(image, resized, inside, resample)
    if part.size == (width, height):
        return part
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(part, (first_x - left, first_y - top))
    return canvas


def inside_of(resized: Size, crop: Box) -> Box:
    """Return the part of ``crop`` that lies on the resized image, in its pixels.

    Its width and height are 0 where nothing does.
    """
    left, top, width, height = crop
    first_x, first_y = max(left, 0), max(top, 0)
    last_x, last_y = min(left + width, resized[0]), min(top + height, resized[1])
    if first_x >= last_x or first_y >= last_y:
        return first_x, first_y, 0, 0
    return first_x, first_y, last_x - first_x, last_y - first_y


def are_rows_first(size: Size, resized: Size, crop: Box) -> bool:
    """Return whether ``resize_and_crop`` resizes an image of ``size`` whole, rows first.

    Pillow rounds to bytes between rows and columns, so their order shows. Version 13 begins with
    the columns of pictures that lose far more rows than columns.
    """
    width, height = size
    fewer_columns, fewer_rows = width - resized[0], height - resized[1]
    saves_more = fewer_rows > 0 and fewer_rows > 2 * fewer_columns
    return _is_whole(resized, crop) and not _is_tall(height, resized) and not saves_more


def _is_whole(resized: Size, crop: Box) -> bool:
    return resized[0] * resized[1] <= max(_WHOLE_PIXELS, _FAIR_PART * crop[2] * crop[3])


def _is_tall(height: int, resized: Size) -> bool:
    """Whether Pillow would keep too much between its two passes."""
    return resized[0] * height > max(_WHOLE_PIXELS, _FAIR_PART * resized[0] * resized[1])


def _resize_part(
    image: Image.Image, resized: Size, part: Box, resample: Image.Resampling
) -> Image.Image:
    """Resize only the source pixels that ``part`` of the resized image depends on."""
    start_x, stop_x, from_x, to_x = _source_span(image.width, resized[0], part[0], part[2])
    start_y, stop_y, from_y, to_y = _source_span(image.height, resized[1], part[1], part[3])
    # Pillow keeps box edges as float32. Cut out first, so that they are small numbers.
    region = image.crop((start_x, start_y, stop_x, stop_y))
    box = (from_x - start_x, from_y - start_y, to_x - start_x, to_y - start_y)
    return _resize(region, (part[2], part[3]), box, resample)


def _source_span(
    source: int, resized: int, first: int, count: int
) -> tuple[int, int, float, float]:
    """Return which source pixels ``count`` target pixels from ``first`` on depend on, on one axis.

    ``source`` and ``resized`` are the lengths of the axis. The result is (start, stop) in whole
    pixels with the reach of the filter, and the exact edges (from, to) of the target pixels.
    """
    scale = source / resized
    reach = math.ceil(_LARGEST_SUPPORT * max(scale, 1.0)) + 1
    begin, end = first * source / resized, (first + count) * source / resized
    return max(math.floor(begin) - reach, 0), min(math.ceil(end) + reach, source), begin, end


def _resize(
    image: Image.Image,
    size: Size,
    box: tuple[float, float, float, float],
    resample: Image.Resampling,
) -> Image.Image:
    """Resize ``box`` of ``image`` with bounded memory between Pillow's two passes.

    Pillow resizes rows first and keeps (target width × source height) pixels in between; not
    every version makes an exception of tall pictures. Where that is too much, columns go first
    here: the same up to rounding of the values in between.
    """
    if _is_tall(image.height, size):
        columns = (0, box[1], image.width, box[3])
        image = image.resize((image.width, size[1]), resample, box=columns)
        box = (box[0], 0, box[2], size[1])
    return image.resize(size, resample, box=box)
