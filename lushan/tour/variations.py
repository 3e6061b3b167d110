"""The picture changed in many ways, and what the network says then (chapters 1, 3 and 10).

Every change is made to the pixels that the network sees, uint8 [H, W, 3], so that nothing softens
it afterwards. Bare ground is the mean colour, which normalising makes 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from lushan.explain.inspection import Inspection
from lushan.image.color import (
    chroma_only,
    luma_only,
    rgb_to_ycbcr,
    ycbcr_to_rgb,
)
from lushan.image.frame import frame_to_rgb, rgb_to_frame
from lushan.reference.softmax import softmax, top_k
from lushan.tour.encoding import Pixels, picture_url

_TOGETHER = 16 * 224 * 224  # pixels of the pictures that are run at a time
_TILES = 4  # of a side, when the picture is jumbled
Change = Callable[[Pixels, tuple[int, int, int]], Pixels]


def variations(inspection: Inspection, top: int) -> list[dict[str, Any]]:
    """Return each changed picture with its ``top`` answers, and what it leaves the first answer.

    {"group", "name", "picture", "answers": [{"index", "probability"}], "kept": probability}
    """
    pixels = inspection.pixels
    mean = inspection.model.preprocessing.mean
    red, green, blue = (int(np.clip(round(255 * part), 0, 255)) for part in mean)
    ground = (red, green, blue)
    made = [(group, name, change(pixels, ground)) for group, name, change in CHANGES]
    best = int(inspection.scores.argmax())
    rows = np.concatenate(list(_scores(inspection, [changed for _, _, changed in made])))
    found = []
    for (group, name, changed), scores in zip(made, rows, strict=True):
        inspection.recognizer.check_scores(scores, name)
        probabilities = softmax(scores)
        found.append(
            {
                "group": group,
                "name": name,
                "picture": picture_url(changed),
                "kept": float(probabilities[best]),
                "answers": [
                    {"index": int(index), "probability": float(probabilities[index])}
                    for index in top_k(scores, top)
                ],
            }
        )
    return found


def _scores(inspection: Inspection, pictures: list[Pixels]) -> Iterator[Any]:
    height, width = inspection.size
    together = max(1, _TOGETHER // (height * width))
    for start in range(0, len(pictures), together):
        batch = np.stack(pictures[start : start + together])
        normalized = inspection.model.preprocessing.normalize(batch)
        yield inspection.recognizer.scores(normalized)


# --- changes --------------------------------------------------------------------------------------


def _covered(rows: tuple[int, int], columns: tuple[int, int]) -> Change:
    """Return the change that covers these halves: 0 to 2 of each axis."""

    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        height, width = pixels.shape[:2]
        result: Pixels = pixels.copy()
        top, bottom = (height * part // 2 for part in rows)
        left, right = (width * part // 2 for part in columns)
        result[top:bottom, left:right] = ground
        return result

    return change


def _coarser(factor: int) -> Change:
    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        image = Image.fromarray(pixels)
        small = (max(1, image.width // factor), max(1, image.height // factor))
        coarse = image.resize(small, Image.Resampling.BOX)
        changed: Pixels = np.array(coarse.resize(image.size, Image.Resampling.BILINEAR))
        return changed

    return change


def _jumbled(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
    """Exchange the tiles of a grid: every neighbourhood stays, the whole is gone."""
    height, width = pixels.shape[0] // _TILES, pixels.shape[1] // _TILES
    result: Pixels = pixels.copy()
    if not height or not width:
        return result
    order = np.random.default_rng(7).permutation(_TILES * _TILES)
    for place, source in enumerate(order):
        (to_row, to_column), (row, column) = divmod(place, _TILES), divmod(int(source), _TILES)
        result[
            to_row * height : (to_row + 1) * height, to_column * width : (to_column + 1) * width
        ] = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
    return result


def _subsampled(format_name: str) -> Change:
    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        height, width = pixels.shape[:2]
        frame = rgb_to_frame(pixels, format_name, value_range="full", siting="center")
        return frame_to_rgb(frame, format_name, width, height, value_range="full", siting="center")

    return change


def _luma(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
    return ycbcr_to_rgb(luma_only(rgb_to_ycbcr(pixels)))


def _chroma(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
    return ycbcr_to_rgb(chroma_only(rgb_to_ycbcr(pixels)))


def _shifted(part: int) -> Change:
    """Return the change that moves the picture right and down by a side's ``part``-th, or 1."""

    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        height, width = pixels.shape[:2]
        down, across = max(1, height // part), max(1, width // part)
        padded = np.pad(pixels, ((down, 0), (across, 0), (0, 0)), mode="edge")
        shifted: Pixels = padded[:height, :width]
        return shifted

    return change


def _turned(degrees: float) -> Change:
    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        image = Image.fromarray(pixels)
        changed: Pixels = np.array(
            image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=ground)
        )
        return changed

    return change


def _stretched(factor: float) -> Change:
    def change(pixels: Pixels, ground: tuple[int, int, int]) -> Pixels:
        image = Image.fromarray(pixels)
        margin = image.width * (1 - 1 / factor) / 2
        box = (margin, 0, image.width - margin, image.height)
        changed: Pixels = np.array(image.resize(image.size, Image.Resampling.BICUBIC, box=box))
        return changed

    return change


CHANGES: tuple[tuple[str, str, Change], ...] = (
    ("less", "left_covered", _covered((0, 2), (0, 1))),
    ("less", "right_covered", _covered((0, 2), (1, 2))),
    ("less", "top_covered", _covered((0, 1), (0, 2))),
    ("less", "bottom_covered", _covered((1, 2), (0, 2))),
    ("less", "half_resolution", _coarser(2)),
    ("less", "quarter_resolution", _coarser(4)),
    ("less", "eighth_resolution", _coarser(8)),
    ("less", "jumbled", _jumbled),
    ("colour", "yuv444", _subsampled("I444")),
    ("colour", "yuv422", _subsampled("I422")),
    ("colour", "yuv420", _subsampled("I420")),
    ("colour", "luma_only", _luma),
    ("colour", "chroma_only", _chroma),
    ("moved", "shifted_little", _shifted(56)),
    ("moved", "shifted", _shifted(12)),
    ("moved", "turned_little", _turned(5)),
    ("moved", "turned", _turned(20)),
    ("moved", "stretched", _stretched(1.15)),
)
