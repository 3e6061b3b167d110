"""Drawings are well-formed SVG that shows the numbers, in both languages."""

from __future__ import annotations

import base64
import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lushan.train.drawing import TEXTS, _ticks, draw_confusion, draw_curves, draw_each_curve

SVG = "{http://www.w3.org/2000/svg}"


def records(epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "kind": "epoch",
            "epoch": number,
            "step": 10 * number,
            "train_loss": 2 / number,
            "val_loss": 3 / number,
            "train_accuracy": 0.5,
            "val_top1": 0.4,
            "val_top5": 0.9,
        }
        for number in range(1, epochs + 1)
    ] + [{"kind": "step", "step": 5, "learning_rate": 0.1, "epoch": 1}]


@pytest.mark.parametrize("lang", TEXTS)
@pytest.mark.parametrize("epochs", [0, 1, 12])
def test_curves(epochs: int, lang: str) -> None:
    root = ElementTree.fromstring(draw_curves(records(epochs), lang))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {TEXTS[lang]["loss"], TEXTS[lang]["epoch"], str(max(1, epochs))} <= texts
    paths = [e for e in root.iter(f"{SVG}path") if "line" in e.get("class", "")]
    assert len(paths) == 6 + 5 * bool(epochs)  # five of them are in the legends


def test_each_curve_is_a_drawing_of_its_own() -> None:
    def lines(drawing: str) -> list[str]:
        root = ElementTree.fromstring(drawing)
        return [e.get("class", "") for e in root.iter(f"{SVG}path") if "line" in e.get("class", "")]

    each = draw_each_curve(records(4), "en")
    assert len(each) == 3
    assert [name for one in each for name in lines(one)] == lines(draw_curves(records(4), "en"))


def test_curves_go_through_their_points() -> None:
    root = ElementTree.fromstring(draw_curves(records(4), "en"))
    line = next(e.get("d") for e in root.iter(f"{SVG}path") if e.get("class") == "b line")
    assert line is not None
    points = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    heights = np.array([-y for _, y in points])
    expected = 3 / np.arange(1, 5)
    slope, offset = np.polyfit(expected, heights, 1)
    np.testing.assert_allclose(slope * expected + offset, heights, atol=0.1)
    assert slope > 0


@pytest.mark.parametrize("values", [(0, 1), (2.31, 2.32), (0, 0), (1e-6, 3e-6), (37, 99.8)])
def test_ticks_surround_the_values(values: tuple[float, float]) -> None:
    ticks = _ticks(*values)
    assert ticks[0] <= values[0] + 1e-12
    assert ticks[-1] >= values[1] - 1e-12
    assert 2 <= len(ticks) <= 8
    assert np.diff(ticks).min() > 0


@pytest.mark.parametrize("classes", [2, 40, 200])
def test_confusion(classes: int) -> None:
    confusion = np.eye(classes, dtype=np.int64) * 9
    confusion[0, 1] = 3
    names = [f"<{index}> & 类" for index in range(classes)]
    root = ElementTree.fromstring(draw_confusion(confusion, names, "zh"))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert (names[0] in texts) == (classes <= 40)
    address = next(root.iter(f"{SVG}image")).get("href", "")
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    pixels = np.asarray(image).astype(int)
    assert pixels.shape == (classes, classes, 3)
    assert pixels[1, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].sum() < pixels[0, 0].sum() < pixels[0, 1].sum() < 3 * 255
