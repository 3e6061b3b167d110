"""Draw the figures of docs/tour.md: one picture on its way through the network that ships.

Run: python scripts/tour_figures.py [-o docs/tour]

The picture is drawn here, too, so that anyone can make the same figures: a mountain in the mist.
Every number and every map in them comes from lushan. The English and the Chinese page share
them: what needs words stands in the pages.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import lushan
from lushan.explain import (
    Inspection,
    cam,
    contributions,
    deconvnet,
    feature_maps,
    residual_blocks,
    strongest_channels,
)
from lushan.explain.drawing import heat_map, map_picture, pattern_picture
from lushan.image.color import chroma_only, luma_only, rgb_to_ycbcr, ycbcr_to_rgb
from lushan.reference.activation import leaky_relu, relu, sigmoid, tanh
from lushan.reference.pooling import max_pooling

Pixels = npt.NDArray[np.uint8]

SIDE = 256
TILE = 128
GAP = 6
PAPER = (255, 255, 255)
INK = (60, 60, 60)
STAGES = ("relu", "layer1.1.relu2", "layer2.1.relu2", "layer3.1.relu2", "layer4.1.relu2")


def mountain() -> Pixels:
    """Return the picture, uint8 [256, 256, 3]: ridges behind ridges, fading into mist."""
    random = np.random.default_rng(1084)  # the year of Su Shi's poem on the wall of a monastery
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    sky_above, mist = np.array([86, 128, 186.0]), np.array([228, 228, 226.0])
    picture = sky_above + (mist - sky_above) * np.minimum(1, 1.5 * rows[..., None])
    cloud = np.clip(_rough(random, 1.6) - 0.2, 0, 0.8)[..., None] * (rows[..., None] < 0.4)
    picture += cloud * (250 - picture)
    x = columns[0]
    for depth, (peak, width, rise) in enumerate(
        ((0.55, 0.20, 0.30), (0.15, 0.16, 0.20), (0.85, 0.22, 0.16), (0.40, 0.30, 0.10))
    ):  # from the farthest ridge to the nearest
        ridge = 0.42 + 0.14 * depth - rise * np.exp(-(np.abs((x - peak) / width) ** 1.3))
        ridge += 0.05 * _rough(random, 1.1)[depth]
        below = rows - ridge[None]  # 0 on the ridge, positive in the mountain
        height = _rough(random, 1.0)
        light = 90 * np.gradient(height, axis=1) * SIDE / 8  # sides turned to the sun are brighter
        rock = np.array([46, 58, 66.0]) + (3 - depth) * np.array([22, 24, 24.0])
        forest = np.array([34, 60, 44.0])
        colour = rock if depth < 2 else forest
        shade = colour + light[..., None] * (1.0, 1.0, 0.95)
        if depth == 0:
            snow = np.clip(1.5 + 2.5 * height - 9 * below, 0, 1)[..., None]
            shade += snow * (np.array([238, 242, 248.0]) + 0.6 * light[..., None] - shade)
        fog = np.clip((below - 0.06) * (2.4 - 0.5 * depth) + 0.25 * height - 0.1, 0, 0.9)
        shade += fog[..., None] * (mist - shade)
        picture = np.where((below > 0)[..., None], shade, picture)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _rough(random: np.random.Generator, smoothness: float) -> npt.NDArray[np.float64]:
    """Return a rough surface [SIDE, SIDE], about -1 to 1: noise of ever smaller grain and size."""
    surface = np.zeros((SIDE, SIDE))
    for octave in range(1, 8):
        grid = random.normal(size=(2**octave + 1, 2**octave + 1)).astype(np.float32)
        grown = Image.fromarray(grid).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        surface += np.asarray(grown, np.float64) / 2 ** (smoothness * octave)
    return surface


def pixels_figure(picture: Pixels) -> Image.Image:
    """Return the picture, and beside it the numbers of the 6×6 pixels at its summit."""
    top, left, side, cell = 45, 138, 6, 46
    sheet = Image.new("RGB", (SIDE + GAP + side * cell, side * cell), PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(Image.fromarray(picture), (0, (side * cell - SIDE) // 2))
    offset = (side * cell - SIDE) // 2
    box = (left, top + offset, left + side, top + side + offset)
    draw.rectangle([box[0] - 2, box[1] - 2, box[2] + 1, box[3] + 1], outline=(220, 30, 30))
    for row in range(side):
        for column in range(side):
            rgb = picture[top + row, left + column]
            x, y = SIDE + GAP + column * cell, row * cell
            ink = (0, 0, 0) if rgb.mean() > 120 else (255, 255, 255)
            draw.rectangle([x, y, x + cell - 1, y + cell - 1], fill=tuple(map(int, rgb)))
            for line, value in enumerate(rgb):
                draw.text((x + 12, y + 3 + 13 * line), f"{value:3d}", fill=ink, font=_font(11))
    return sheet


def planes_figure(picture: Pixels) -> Image.Image:
    """Return red, green, blue; Y', Cb, Cr; and the picture of luma alone, of chroma alone."""
    ycbcr = rgb_to_ycbcr(picture)
    grey = [np.repeat(plane[..., None], 3, axis=-1) for plane in np.moveaxis(ycbcr, -1, 0)]
    red_green_blue = [picture * np.eye(3, dtype=np.uint8)[part] for part in range(3)]
    alone = [ycbcr_to_rgb(luma_only(ycbcr)), ycbcr_to_rgb(chroma_only(ycbcr))]
    return _sheet([red_green_blue, grey, [picture, *alone]])


def stem_figure(inspection: Inspection) -> Image.Image:
    """Return what the network sees, and the strongest maps of its first convolution."""
    maps = feature_maps(inspection, STAGES[0])
    best = strongest_channels(inspection, STAGES[0], 7)
    pictures = [map_picture(maps[..., one.channel], least=TILE) for one in best]
    return _sheet([[inspection.pixels, *pictures[:3]], pictures[3:]])


def features_figure(inspection: Inspection) -> Image.Image:
    """Return, stage by stage, the strongest channels, and below each what it answered to."""
    rows: list[Sequence[Pixels]] = []
    for node in STAGES:
        maps = feature_maps(inspection, node)
        channels = [one.channel for one in strongest_channels(inspection, node, 3)]
        patterns = deconvnet(inspection, node, channels, at="all")
        pairs = zip(channels, patterns, strict=True)
        rows.append(
            [
                picture
                for channel, found in pairs
                for picture in (
                    map_picture(maps[..., channel], least=TILE),
                    pattern_picture(found.pattern, least=TILE),
                )
            ]
        )
    return _sheet(rows)


def residual_figure(inspection: Inspection) -> Image.Image:
    """Return a bar for every residual block: how much of the sum the branch brings."""
    blocks = residual_blocks(inspection)
    sheet = Image.new("RGB", (560, 26 * len(blocks) + 4), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, block in enumerate(blocks):
        y = 26 * row + 4
        draw.text((4, y + 2), block.node, fill=INK, font=_font(13))
        split = 130 + round(360 * block.branch_share)
        draw.rectangle([130, y, split, y + 18], fill=(188, 42, 96))
        draw.rectangle([split, y, 490, y + 18], fill=(92, 132, 186))
        draw.text((498, y + 2), f"{100 * block.branch_share:.0f} %", fill=INK, font=_font(13))
    return sheet


def activations_figure() -> Image.Image:
    """Return the curves of sigmoid, tanh, ReLU and Leaky ReLU from -4 to 4, with the axes."""
    width, height, unit = 190, 150, 22
    curves = (
        ("sigmoid", sigmoid),
        ("tanh", tanh),
        ("ReLU", relu),
        ("Leaky ReLU", lambda x: leaky_relu(x, 0.1)),
    )
    sheet = Image.new("RGB", (width * len(curves), height), PAPER)
    draw = ImageDraw.Draw(sheet)
    x = np.linspace(-4, 4, 161)
    for place, (name, function) in enumerate(curves):
        middle, ground = place * width + width // 2, 104
        draw.line([middle - 90, ground, middle + 90, ground], fill=(200, 200, 200))
        draw.line([middle, 16, middle, 140], fill=(200, 200, 200))
        y = np.clip(function(x), -1.5, 4)
        points = [(middle + unit * a, ground - unit * b) for a, b in zip(x, y, strict=True)]
        draw.line(points, fill=(188, 42, 96), width=2)
        draw.text((middle - 86, 2), name, fill=INK, font=_font(13))
    return sheet


def pooling_figure(picture: Pixels) -> Image.Image:
    """Return the luma of the picture, pooled 2×2 again and again: half the sides each time."""
    luma = rgb_to_ycbcr(picture)[None, ..., :1].astype(np.float32)  # [1, H, W, 1]
    steps = [luma]
    for _ in range(4):
        steps.append(max_pooling(steps[-1], 2)[0])
    return _sheet([[np.repeat(step[0].astype(np.uint8), 3, axis=-1) for step in steps]])


def answer_figure(inspection: Inspection) -> Image.Image:
    """Return where the answer came from, the five answers, and the features that voted most."""
    predictions = inspection.predictions(top=5)
    best = predictions[0].index
    heat = heat_map(inspection.pixels, cam(inspection, best).values, least=SIDE)
    votes = contributions(inspection, best)
    sheet = Image.new("RGB", (SIDE + GAP + 380, SIDE), PAPER)
    sheet.paste(Image.fromarray(heat).resize((SIDE, SIDE)), (0, 0))
    draw = ImageDraw.Draw(sheet)
    left = SIDE + 3 * GAP
    for row, one in enumerate(predictions):
        y = 4 + 22 * row
        draw.rectangle([left, y, left + round(200 * one.probability), y + 14], fill=(92, 132, 186))
        text = f"{100 * one.probability:.1f} %  {one.description}"
        draw.text((left + 6, y), text, fill=INK, font=_font(13))
    strongest = votes.strongest(5)
    most = max(abs(term) for _, term in strongest)
    for row, (feature, term) in enumerate(strongest):
        y = 140 + 22 * row
        draw.rectangle([left, y, left + round(200 * abs(term) / most), y + 14], fill=(232, 160, 90))
        draw.text((left + 6, y), f"{term:+.3f}  feature {feature}", fill=INK, font=_font(13))
    return sheet


def _sheet(rows: Sequence[Sequence[Pixels]]) -> Image.Image:
    """Return rows of pictures, each shown as a square of TILE."""
    columns = max(len(row) for row in rows)
    step = TILE + GAP
    sheet = Image.new("RGB", (columns * step - GAP, len(rows) * step - GAP), PAPER)
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            sheet.paste(_as_square(pixels), (x * step, y * step))
    return sheet


def _as_square(pixels: Pixels) -> Image.Image:
    """Return pixels as a square of TILE: small ones with their edges, large ones averaged."""
    small = pixels.shape[0] < TILE
    how = Image.Resampling.NEAREST if small else Image.Resampling.BOX
    return Image.fromarray(pixels).resize((TILE, TILE), how)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/tour"))
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    picture = mountain()
    with lushan.load() as recognizer:
        inspection = Inspection(recognizer, picture)
        figures = {
            "pixels": pixels_figure(picture),
            "planes": planes_figure(picture),
            "stem": stem_figure(inspection),
            "features": features_figure(inspection),
            "residual": residual_figure(inspection),
            "activations": activations_figure(),
            "pooling": pooling_figure(picture),
            "answer": answer_figure(inspection),
        }
    for name, figure in figures.items():
        figure.save(folder / f"{name}.webp", quality=70, method=6)
        print(folder / f"{name}.webp")


if __name__ == "__main__":
    main()
