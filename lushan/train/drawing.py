"""Curves and the confusion matrix as SVG, drawn by hand: no plotting library is needed for that.

``draw_panels`` draws curves of anything; the others draw what a run has, with texts in the reader's
language, ``TEXTS``. The drawings have no background: they are for light and dark pages.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
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
_CURVES_HEIGHT = _TOP + _HEIGHT + 90
_NAMED_CLASSES = 40  # with more, their names would not be legible beside the matrix
_MATRIX = 560  # pixels

Points: TypeAlias = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """A pair of axes, and ``curves`` by name: three names at most, with lines (x, y) of each.

    x goes from ``first`` to ``last``. y goes around all values, or around the two of ``limits``:
    what is beyond lies on the edge. With ``logarithmic`` y goes by powers of ten, and what is not
    positive is left out.
    """

    title: str
    curves: Mapping[str, Sequence[Points]]
    x_title: str
    last: float
    first: float = 0
    limits: tuple[float, float] | None = None
    logarithmic: bool = False


def draw_panels(
    panels: Sequence[Panel], columns: int, *, width: float = 190, height: float = 110
) -> str:
    """Return the drawing of ``panels`` in rows of ``columns``, with one legend, the first's.

    ``width`` and ``height`` are those of each panel's axes, in pixels.
    """
    across, down = width + _LEFT + 5, height + 75
    body = []
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        body.append(
            _panel(panel, _Frame(_LEFT + across * column, _TOP + down * row, width, height))
        )
    x, y = _LEFT, _TOP + down * math.ceil(len(panels) / columns)
    for colour, name in zip("abc", panels[0].curves if panels else (), strict=False):
        body.append(_key(colour, name, x, y))
        x += 60 + _text_width(name)
    return _svg(_LEFT + across * columns - 35, y + 15, "\n".join(body))


def draw_curves(records: Sequence[Mapping[str, Any]], lang: str) -> str:
    """Return the drawing of a run's ``records``: loss, accuracy and learning rate by epochs.

    The records are those of ``metrics``; without any, there are axes only.
    """
    panels = _curves(records, lang)
    across = _WIDTH + _GAP
    body = [_with_legend(panel, _LEFT + place * across) for place, panel in enumerate(panels)]
    return _svg(_LEFT + len(panels) * across, _CURVES_HEIGHT, "\n".join(body))


def draw_each_curve(records: Sequence[Mapping[str, Any]], lang: str) -> list[str]:
    """Return what ``draw_curves`` draws as drawings of their own, for a page to lay out."""
    width = _LEFT + _WIDTH + 20
    return [
        _svg(width, _CURVES_HEIGHT, _with_legend(panel, _LEFT)) for panel in _curves(records, lang)
    ]


def _curves(records: Sequence[Mapping[str, Any]], lang: str) -> list[Panel]:
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
    return [
        Panel(title, {name: [points] for name, points in curves.items()}, texts["epoch"], last)
        for title, curves in panels
    ]


def _with_legend(panel: Panel, left: float) -> str:
    """Return a panel with the names of its curves below each other."""
    frame = _Frame(left, _TOP, _WIDTH, _HEIGHT)
    keys = [
        _key(colour, name, left, frame.bottom + 40 + 18 * row)
        for row, (colour, name) in enumerate(zip("abc", panel.curves, strict=False))
        if name
    ]
    return "\n".join([_panel(panel, frame), *keys])


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


@dataclass(frozen=True)
class _Frame:
    """Where a panel's axes are on the drawing."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height


def _panel(panel: Panel, frame: _Frame) -> str:
    left, bottom = frame.left, frame.bottom
    curves = {
        name: [_heights(panel, line) for line in lines] for name, lines in panel.curves.items()
    }
    values = [y for lines in curves.values() for line in lines for _, y in line]
    ends = panel.limits or (0, 0)
    if panel.limits is None:
        ends = min(values, default=0.0), max(values, default=1.0)
    elif panel.logarithmic:
        ends = math.log10(ends[0]), math.log10(ends[1])
    ticks = _ticks(ends[0], ends[1], finest=1 if panel.logarithmic else 0)
    low, high = ticks[0], ticks[-1]

    def place(point: tuple[float, float]) -> str:
        x = left + frame.width * (point[0] - panel.first) / max(1e-9, panel.last - panel.first)
        y = bottom - frame.height * (min(high, max(low, point[1])) - low) / (high - low)
        return f"{x:.1f} {y:.1f}"

    parts = [
        f'<text x="{left}" y="{frame.top - 16}" font-weight="bold">{escape(panel.title)}</text>'
    ]
    for tick in ticks:
        y = bottom - frame.height * (tick - low) / (high - low)
        text = _power(tick) if panel.logarithmic else f"{tick:g}"
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{frame.width}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for x, anchor, text in (
        (left, "start", f"{panel.first:g}"),
        (left + frame.width / 2, "middle", panel.x_title),
        (left + frame.width, "end", f"{panel.last:g}"),
    ):
        parts.append(
            f'<text x="{x}" y="{bottom + 18}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    for colour, lines in zip("abc", curves.values(), strict=False):
        for points in filter(None, lines):
            line = "L".join(map(place, points if len(points) > 1 else [points[0]] * 2))
            parts.append(f'<path class="{colour} line" stroke-linecap="round" d="M{line}"/>')
    return "\n".join(parts)


def _key(colour: str, name: str, x: float, y: float) -> str:
    """Return an entry of a legend."""
    return (
        f'<path class="{colour} line" d="M{x} {y - 4}h24"/>'
        f'<text class="{colour}" x="{x + 32}" y="{y}">{escape(name)}</text>'
    )


def _heights(panel: Panel, points: Points) -> Points:
    """Return points whose y counts as high as it is drawn."""
    if not panel.logarithmic:
        return points
    return [(x, math.log10(y)) for x, y in points if y > 0]


def _power(exponent: float) -> str:
    """Return a power of ten as one writes it."""
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _ticks(low: float, high: float, finest: float = 0) -> list[float]:
    """Return three to seven round numbers in equal steps, ``finest`` or more, around all values."""
    span = max(high - low, abs(high) * 1e-3, 1e-12)
    rough = max(span / 5, finest)
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
