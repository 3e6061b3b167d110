"""Curves and the confusion matrix as SVG, drawn by hand: no plotting library is needed for that.

The drawings have no background: they are for light and dark pages. Texts are in the reader's
language, ``TEXTS``.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from PIL import Image

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "epoch": "epoch",
        "loss": "Loss",
        "accuracy": "Accuracy, %",
        "rate": "Learning rate",
        "train": "training",
        "val": "validation",
        "top5": "validation, top 5",
        "said": "what the network said →",
        "is": "what it is ↓",
    },
    "zh": {
        "epoch": "轮次",
        "loss": "损失",
        "accuracy": "准确率（%）",
        "rate": "学习率",
        "train": "训练",
        "val": "验证",
        "top5": "验证（前五）",
        "said": "网络的回答 →",
        "is": "实际类别 ↓",
    },
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.a { stroke: #0969da; fill: #0969da } .b { stroke: #bc4c00; fill: #bc4c00 }
.c { stroke: #1a7f37; fill: #1a7f37 }
.line { fill: none; stroke-width: 2 } .b.line { stroke-dasharray: 6 3 }
.c.line { stroke-dasharray: 2 3 } text.a, text.b, text.c { stroke: none }
.box { fill: none; stroke: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #d0d7de }
  .a { stroke: #58a6ff; fill: #58a6ff } .b { stroke: #f0883e; fill: #f0883e }
  .c { stroke: #3fb950; fill: #3fb950 }
  .line { fill: none } text.a, text.b, text.c { stroke: none }
}"""
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 300, 200, 60, 40, 80
_NAMED_CLASSES = 40  # with more, their names would not be legible beside the matrix
_MATRIX = 560  # pixels

Points = Sequence[tuple[float, float]]


def draw_curves(records: Sequence[Mapping[str, Any]], lang: str) -> str:
    """Return the drawing of a run's ``records``: loss, accuracy and learning rate by epochs.

    The records are those of ``metrics``; without any, there are axes only.
    """
    epochs, steps = ([r for r in records if r["kind"] == kind] for kind in ("epoch", "step"))
    texts = TEXTS[lang]
    last = max((record["epoch"] for record in epochs), default=1)

    def curve(key: str, factor: float = 1.0) -> Points:
        return [(record["epoch"], factor * record[key]) for record in epochs]

    per_epoch = epochs[0]["step"] / epochs[0]["epoch"] if epochs else math.inf
    rates = [(record["step"] / per_epoch, record["learning_rate"]) for record in steps]
    panels: Sequence[tuple[str, Mapping[str, Points]]] = (
        (texts["loss"], {texts["train"]: curve("train_loss"), texts["val"]: curve("val_loss")}),
        (
            texts["accuracy"],
            {
                texts["train"]: curve("train_accuracy", 100),
                texts["val"]: curve("val_top1", 100),
                texts["top5"]: curve("val_top5", 100),
            },
        ),
        (texts["rate"], {"": [(x, y) for x, y in rates if x <= last]}),
    )
    width, height = len(panels) * (_WIDTH + _GAP) + _LEFT, _TOP + _HEIGHT + 110
    body = "\n".join(
        _panel(title, curves, _LEFT + place * (_WIDTH + _GAP), last, texts["epoch"])
        for place, (title, curves) in enumerate(panels)
    )
    return _svg(width, height, body)


def draw_confusion(confusion: npt.NDArray[np.int64], names: Sequence[str], lang: str) -> str:
    """Return the drawing of a confusion matrix [K, K]: the darker, the more of a class's pictures.

    Classes have their names beside them where these are few enough to be read.
    """
    texts, count = TEXTS[lang], len(confusion)
    cell = max(2, _MATRIX // count)
    side = cell * count
    left = top = 30
    labels = []
    if count <= _NAMED_CLASSES:
        longest = max(map(_text_width, names))
        left, top = 30 + longest, 30 + longest
        for place, name in enumerate(names):
            middle = cell * (place + 0.5)
            labels.append(
                f'<text x="{left - 6}" y="{top + middle + 4:.1f}" text-anchor="end">'
                f"{escape(name)}</text>"
                f'<text transform="translate({left + middle + 4:.1f} {top - 6}) rotate(-90)">'
                f"{escape(name)}</text>"
            )
    body = (
        f'<image x="{left}" y="{top}" width="{side}" height="{side}" '
        f'style="image-rendering: pixelated" href="{_matrix_picture(confusion)}"/>'
        f'<rect class="box" x="{left}" y="{top}" width="{side}" height="{side}"/>'
        f'<text x="{left}" y="{top + side + 20}">{escape(texts["said"])}</text>'
        f'<text transform="translate({left + side + 8} {top}) rotate(90)">'
        f"{escape(texts['is'])}</text>" + "".join(labels)
    )
    return _svg(left + side + 40, top + side + 40, body)


def data_address(image: Image.Image, format_: str = "PNG") -> str:
    """Return a picture as an address that holds its bytes."""
    file = io.BytesIO()
    image.save(file, format_)
    return f"data:image/{format_.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _matrix_picture(confusion: npt.NDArray[np.int64]) -> str:
    """Return one pixel per cell, from white (none of the class) to blue (all of it)."""
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    # A mistake of one picture in a hundred should still be seen.
    strength = np.sqrt(shares)[:, :, None]
    colours = 255 + strength * (np.array([9, 74, 180]) - 255)
    return data_address(Image.fromarray(colours.round().astype(np.uint8)))


def _panel(title: str, curves: Mapping[str, Points], left: float, last: float, x_title: str) -> str:
    values = [value for points in curves.values() for _, value in points]
    ticks = _ticks(min(values, default=0.0), max(values, default=1.0))
    low, high = ticks[0], ticks[-1]
    bottom = _TOP + _HEIGHT

    def place(point: tuple[float, float]) -> str:
        x = left + _WIDTH * point[0] / last
        y = bottom - _HEIGHT * (point[1] - low) / (high - low)
        return f"{x:.1f} {y:.1f}"

    parts = [f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{escape(title)}</text>']
    for tick in ticks:
        y = bottom - _HEIGHT * (tick - low) / (high - low)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{_WIDTH}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x, anchor, number in ((left, "start", 0), (left + _WIDTH, "end", last)):
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="{anchor}">{number:g}</text>')
    parts.append(
        f'<text x="{left + _WIDTH / 2}" y="{bottom + 18}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
    )
    for row, (colour, (name, points)) in enumerate(zip("abc", curves.items(), strict=False)):
        if points:
            line = "L".join(map(place, points if len(points) > 1 else [points[0]] * 2))
            parts.append(f'<path class="{colour} line" stroke-linecap="round" d="M{line}"/>')
        if name:
            y = bottom + 40 + 18 * row
            parts.append(
                f'<path class="{colour} line" d="M{left} {y - 4}h24"/>'
                f'<text class="{colour}" x="{left + 32}" y="{y}">{escape(name)}</text>'
            )
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers in equal steps around all values."""
    span = max(high - low, abs(high) * 1e-3, 1e-12)
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _text_width(text: str) -> int:
    """Return about how many pixels a text takes: a Chinese character is as wide as high."""
    return sum(13 if character > "\u2e80" else 8 for character in text)


def _svg(width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" role="img">\n<style>{STYLE}\n</style>\n{body}\n</svg>\n'
    )
