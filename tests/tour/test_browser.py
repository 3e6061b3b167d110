"""The page in a real browser: no errors, both languages, and arithmetic that equals the API's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explain.conftest import NETWORKS
from lushan.explain import Inspection, arithmetic, contributions
from lushan.image.layout import NCHW, NHWC, Shape, parse_layout
from lushan.recognizer import load
from lushan.tour import page
from support.small_models import write_small_model

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SECONDS = 60_000  # milliseconds: a shared machine may be slow


@dataclass
class Opened:
    """A page in the browser, what it complained of, and the inspection that it shows."""

    tab: Any
    complaints: list[str]
    requests: list[str]
    inspection: Inspection


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["bottleneck", "sigmoid"])
def opened(
    request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("tour")
    config = {"input_size": [3, 40, 44], "interpolation": "bilinear", "crop_pct": 1.0}
    model = write_small_model(folder / "m", NETWORKS[request.param], pretrained_cfg=config)
    pixels = np.random.default_rng(4).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    with load(model) as recognizer:
        (folder / "tour.html").write_text(page(recognizer, folder / "picture.png"), "utf-8")
        tab = browser.new_page(viewport={"width": 390, "height": 800})
        tab.set_default_timeout(SECONDS)
        complaints: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda one: requests.append(one.url))
        tab.goto((folder / "tour.html").as_uri())
        inspection = Inspection(recognizer, folder / "picture.png")
        yield Opened(tab, complaints, requests, inspection)
        tab.close()


def exact(tab: Any, name: str) -> float:
    return float(tab.get_attribute(f'#cell td[data-name="{name}"]', "data-exact"))


def test_a_clicked_cell_shows_the_arithmetic_of_the_api(opened: Opened) -> None:
    tab, inspection = opened.tab, opened.inspection
    checked = 0
    for layer in range(tab.evaluate("data.layers.length")):
        node, channel, shape = tab.evaluate(
            f"[data.layers[{layer}].node, data.layers[{layer}].channels[1].channel,"
            f" data.layers[{layer}].shape]"
        )
        separate = tab.evaluate(f"data.layers[{layer}].recipe.separate")
        for row, column in ((0, 0), (shape[0] - 1, shape[1] // 2), (shape[0] // 2, shape[1] - 1)):
            target = tab.locator(f'.layer[data-node="{node}"] canvas.map').nth(1)
            box = target.bounding_box()
            place = ((column + 0.5) / shape[1], (row + 0.5) / shape[0])
            tab.evaluate("closeCell()")
            target.click(position={"x": place[0] * box["width"], "y": place[1] * box["height"]})
            cell = arithmetic(inspection, node, channel, (row, column))
            assert f"{node}[{row}, {column}, {channel}]" in tab.inner_text("#cell h3")
            assert exact(tab, "displayed") == cell.displayed
            scale = max(cell.magnitude, 1e-3)
            assert exact(tab, "value") == pytest.approx(cell.displayed, abs=1e-6 * max(1, scale))
            assert exact(tab, "deviation") == exact(tab, "displayed") - exact(tab, "value")
            if not separate:
                assert exact(tab, "value") == cell.value  # the same float64, to the last bit
                assert exact(tab, "sum") == cell.sum_of_products
                assert exact(tab, "bias") == cell.bias
                assert exact(tab, "running") == cell.running_sum - cell.value
            checked += 1
    assert checked >= 9


def test_keys_move_the_cell_and_escape_closes_it(opened: Opened) -> None:
    tab = opened.tab
    tab.locator(".layer canvas.map").first.focus()
    tab.keyboard.press("Enter")
    before = tab.inner_text("#cell h3")
    tab.keyboard.press("ArrowUp" if ", 0, " not in before else "ArrowRight")
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text("#cell h3")
    tab.keyboard.press("Escape")
    assert tab.is_hidden("#cell")


def test_every_chapter_is_there_in_both_languages(opened: Opened) -> None:
    tab = opened.tab
    for language, titles, truth in (
        ("en", {1: "Pixels", 5: "Convolution", 8: "Residual blocks", 15: "In use"}, "In truth"),
        ("zh", {1: "像素", 5: "卷积", 8: "残差块", 15: "用起来"}, "其实"),
    ):
        if tab.evaluate("state.language") != language:
            tab.click("#language")
        headings = tab.locator(".chapter h2").all_inner_texts()
        assert len(headings) == 15
        for number, title in titles.items():
            assert headings[number - 1].split(maxsplit=1) == [str(number), title]
        assert "⟨" not in tab.inner_text("body").replace("⟨F(x)", "").replace("⟨sum", "").replace(
            "⟨和", ""
        )
        truths = tab.locator(".truth").all_inner_texts()
        assert len(truths) == 10
        assert all(text.startswith(truth) for text in truths)
    tab.click("#language")


def test_addresses_are_those_of_the_layouts(opened: Opened) -> None:
    tab, (height, width) = opened.tab, opened.inspection.size
    tab.evaluate("choosePixel(7, 11)")
    shape = Shape(2, height, width, 3)
    for layout in (NHWC, NCHW, parse_layout("nChw16c")):
        shown = tab.get_attribute(f'[data-layout="{layout.name}"]', "data-addresses")
        expected = [layout.address(shape, 1, 7, 11, c) for c in range(3)]
        assert [int(place) for place in shown.split(",")] == expected


def test_the_picture_as_numbers_is_the_networks_input(opened: Opened) -> None:
    values = opened.tab.evaluate("[0, 1, 2].map((c) => normalized(3, 5, c))")
    assert np.array_equal(np.float32(values), opened.inspection.input[0, 3, 5])


def test_the_votes_add_up(opened: Opened) -> None:
    tab, inspection = opened.tab, opened.inspection
    best = int(inspection.scores.argmax())
    found = contributions(inspection, best)
    score = tab.evaluate("termsOf(0).score")
    assert score == pytest.approx(found.terms.sum() + found.bias, abs=1e-9)
    assert score == pytest.approx(float(inspection.scores[best]), abs=1e-5)


def test_the_switches_point_at_the_greatest(opened: Opened) -> None:
    tab = opened.tab
    if not tab.evaluate("Boolean(data.pooling)"):
        assert tab.evaluate("data.network.layers.every((one) => one[1] !== 'max_pooling')")
        return
    wrong = tab.evaluate(
        """(() => { let wrong = 0; const [K, h, w] = data.pooling.maps.shape;
        for (let k = 0; k < K; k += 1) for (let row = 0; row < h; row += 1)
          for (let column = 0; column < w; column += 1) {
            const found = poolCell(data.pooling, data.layers[0], { k, row, column });
            if (found.most !== found.displayed || found.values[found.tap] !== found.displayed)
              wrong += 1; }
        return wrong; })()"""
    )
    assert wrong == 0


def test_it_fits_a_phone_and_both_themes(opened: Opened) -> None:
    tab = opened.tab
    grounds = []
    for theme in ("light", "dark"):
        tab.emulate_media(color_scheme=theme)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


def test_nothing_complained_and_nothing_was_fetched(opened: Opened) -> None:
    """Last of all: after everything that was clicked."""
    tab = opened.tab
    tab.click(".play")
    tab.wait_for_timeout(300)
    tab.click(".play")
    for choice in tab.locator(".tabs button").all():
        choice.click()
    assert opened.complaints == []
    outside = [url for url in opened.requests if not url.startswith(("file:", "data:"))]
    assert outside == []


def test_a_file_is_all_it_takes(opened: Opened) -> None:
    files = [url for url in opened.requests if url.startswith("file:")]
    assert len(files) == 1
    assert Path(files[0]).name == "tour.html"


def test_names_of_classes_are_text_and_may_be_long(browser: Any, tmp_path: Path) -> None:
    names = ("<b>bold</b>", "</script><script>document.body.remove()</script>", "x" * 120)
    model = write_small_model(tmp_path / "m", label_names=names)
    Image.new("RGB", (40, 30), (200, 90, 10)).save(tmp_path / "picture.png")
    with load(model) as recognizer:
        (tmp_path / "tour.html").write_text(page(recognizer, tmp_path / "picture.png"), "utf-8")
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto((tmp_path / "tour.html").as_uri())
    shown = tab.locator(".answers").first.locator(".name").all_text_contents()
    assert sorted(shown) == sorted(names)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()
