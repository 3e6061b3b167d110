"""Chapters 1 to 3: the picture as a file has it and as the network sees it, its planes, its sizes.

The pixels that the network sees travel whole; addresses, planes of one colour and single numbers
are worked out from them in the page.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from lushan.explain.inspection import Inspection
from lushan.image.color import chroma_size, rgb_to_ycbcr, subsample
from lushan.image.decode import Picture
from lushan.image.frame import frame_size
from lushan.image.layout import HWC, NCHW, NHWC, Shape, parse_layout
from lushan.tour.encoding import picture_url

_THUMBNAIL = 560  # pixels of the longer side, of the picture as it is in the file
_FRAMES = (("4:4:4", "I444"), ("4:2:2", "I422"), ("4:2:0", "I420"))
_FULL_HD = (1920, 1080)
_BLOCKED = parse_layout("nChw16c")


def picture_data(inspection: Inspection, picture: Picture) -> dict[str, Any]:
    """Return what the file was, a small copy of it, and which part of it the network sees."""
    report = picture.report
    small = picture.image.copy() if max(picture.image.size) <= _THUMBNAIL else None
    if small is None:
        factor = _THUMBNAIL / max(picture.image.size)
        size = (max(1, round(report.width * factor)), max(1, round(report.height * factor)))
        small = picture.image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    return {
        "name": report.source.replace("\\", "/").rsplit("/", 1)[-1],
        "format": report.format,
        "width": report.width,
        "height": report.height,
        "bits": report.bits_per_channel,
        "done": _done(inspection, picture),
        "thumbnail": picture_url(small),
        "seen": _seen(inspection, picture),
    }


def _done(inspection: Inspection, picture: Picture) -> list[str]:
    """Return the names of what decoding did to the picture."""
    report = picture.report
    return [
        name
        for name, happened in (
            ("rotated", report.orientation != 1),
            ("composited", report.alpha_composited),
            ("converted", report.color_converted),
            ("first_frame", report.frames > 1),
            ("to_rgb", report.mode not in ("RGB", "RGBA")),
        )
        if happened
    ]


def _seen(inspection: Inspection, picture: Picture) -> list[float]:
    """Return the part of the file's picture that the network sees, as parts of its sides.

    [left, top, width, height]: a crop of the middle, in the proportions of the input.
    """
    preprocessing = inspection.model.preprocessing
    if preprocessing.crop_mode != "center":
        return [0.0, 0.0, 1.0, 1.0]
    width, height = picture.image.size
    scale = min(width / preprocessing.width, height / preprocessing.height)
    scale *= preprocessing.crop_pct
    across = min(1.0, preprocessing.width * scale / width)
    down = min(1.0, preprocessing.height * scale / height)
    return [(1 - across) / 2, (1 - down) / 2, across, down]


def layout_data(inspection: Inspection) -> dict[str, Any]:
    """Return the strides of every layout for one picture, and for a batch of two."""
    one, two = (Shape(n, *inspection.size, 3) for n in (1, 2))
    layouts = []
    for layout, shape in ((HWC, one), (NHWC, two), (NCHW, two), (_BLOCKED, two)):
        layouts.append(
            {
                "name": layout.name,
                "block": layout.block,
                "shape": list(layout.array_shape(shape)),
                "strides": list(layout.strides(shape)),
                "bytes": layout.size_in_bytes(shape, np.uint8),
            }
        )
    return {"layouts": layouts}


def colour_data(inspection: Inspection, picture: Picture) -> dict[str, Any]:
    """Return the planes of Y′CbCr as pictures, and the bytes of each sampling."""
    ycbcr = rgb_to_ycbcr(inspection.pixels)
    luma, blue, red = (np.ascontiguousarray(ycbcr[..., part]) for part in range(3))
    height, width = inspection.size
    planes = []
    for sampling, _ in _FRAMES:
        across, down = chroma_size(width, height, sampling)  # type: ignore[arg-type]
        planes.append(
            {
                "sampling": sampling,
                "size": [across, down],
                "blue": picture_url(subsample(blue, sampling, "center")),  # type: ignore[arg-type]
                "red": picture_url(subsample(red, sampling, "center")),  # type: ignore[arg-type]
            }
        )
    sizes = ((picture.report.width, picture.report.height), (width, height), _FULL_HD)
    return {
        "luma": picture_url(luma),
        "planes": planes,
        "sizes": [
            {
                "width": across,
                "height": down,
                "rgb": math.prod((across, down, 3)),
                **{sampling: frame_size(name, across, down) for sampling, name in _FRAMES},
            }
            for across, down in sizes
        ],
    }
