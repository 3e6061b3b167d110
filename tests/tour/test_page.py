"""The page as a text: whole, self-contained, true to the picture and the model, of modest size."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from explain.conftest import NETWORKS
from lushan.errors import PictureError, UsageError
from lushan.explain import Inspection
from lushan.image.decode import decode
from lushan.models.resnet import ResNet
from lushan.recognizer import Recognizer, load
from lushan.tour import page, page_data
from support.small_models import write_small_model

LIMIT = 8e6  # bytes of a page
PIXELS = np.random.default_rng(5).integers(0, 256, (50, 61, 3), dtype=np.uint8)
CIFAR = replace(NETWORKS["basic"], shortcut="zero_padding")


def data_of(html: str) -> dict:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert text
    return json.loads(text[1])


def array(blob: dict) -> np.ndarray:
    raw = base64.b64decode(blob["data"])
    return np.frombuffer(raw, f"<{blob['type']}").reshape(blob["shape"])


def recognizer_for(folder: Path, network: ResNet, side: int = 40) -> Recognizer:
    config = {"input_size": [3, side, side], "interpolation": "bilinear", "crop_pct": 1.0}
    return load(write_small_model(folder / "model", network, pretrained_cfg=config))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_has_its_page(tmp_path: Path, name: str) -> None:
    with recognizer_for(tmp_path, NETWORKS[name]) as recognizer:
        html = page(recognizer, PIXELS, "zh")
        data = data_of(html)
        answers = recognizer.classify(PIXELS)
    assert html.startswith('<!doctype html>\n<html lang="zh">')
    assert "⟦" not in html
    assert [one["index"] for one in data["answers"]] == [one.index for one in answers]
    assert [one["probability"] for one in data["answers"]] == [one.probability for one in answers]
    has_patterns = data["layers"][0]["patterns"] is not None
    assert has_patterns == (NETWORKS[name].activation == "relu")
    assert (data["pooling"] is not None) == (NETWORKS[name].stem_pooling == "max")
    assert bool(data["blocks"]) == (NETWORKS[name].shortcut != "none")
    assert data["gradients"]


def test_the_maps_are_the_engines(tmp_path: Path) -> None:
    with recognizer_for(tmp_path, NETWORKS["bottleneck"]) as recognizer:
        data = json.loads(json.dumps(page_data(recognizer, PIXELS)))
        inspection = Inspection(recognizer, PIXELS)
        assert np.array_equal(array(data["pixels"]), inspection.pixels)
        for layer in data["layers"]:
            top, left, bottom, right = layer["crop"]
            numbers = [channel["channel"] for channel in layer["channels"]]
            maps = inspection.value(layer["node"])[top:bottom, left:right, numbers]
            assert np.array_equal(array(layer["maps"]), np.moveaxis(maps, 2, 0))
        pooling = data["pooling"]
        pooled = inspection.value(pooling["node"])
        top, left, bottom, right = pooling["crop"]
        numbers = [channel["channel"] for channel in data["layers"][0]["channels"]]
        assert np.array_equal(
            array(pooling["maps"]), np.moveaxis(pooled[top:bottom, left:right, numbers], 2, 0)
        )
        assert np.array_equal(array(data["softmax"]["scores"]), inspection.scores)


@pytest.mark.parametrize("side", [384, 512])
def test_large_inputs_travel_in_part(tmp_path: Path, side: int) -> None:
    network = ResNet("basic", (1, 1, 1, 1), classes=3)
    with recognizer_for(tmp_path, network, side) as recognizer:
        html = page(recognizer, PIXELS)
    assert len(html.encode()) < LIMIT
    for layer in data_of(html)["layers"]:
        top, left, bottom, right = layer["crop"]
        strongest = layer["channels"][0]
        assert top <= strongest["row"] < bottom
        assert left <= strongest["column"] < right
        assert (layer["overviews"] is None) == ([bottom - top, right - left] == layer["shape"][:2])


@pytest.mark.parametrize("shape", [(1, 1), (4000, 6000), (30, 30)])
def test_a_picture_of_one_colour_of_any_size(model_folder: Path, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (9, 200, 30), np.uint8)
    with load(model_folder) as recognizer:
        data = data_of(page(recognizer, pixels))
    assert (data["picture"]["height"], data["picture"]["width"]) == shape
    assert len(data["variations"]) == 18


def test_nothing_in_a_name_ends_the_page(model_folder: Path) -> None:
    picture = decode(PIXELS, name="</script><script>alert(1)</script>⟦script⟧.png")
    with load(model_folder) as recognizer:
        html = page(recognizer, picture)
    assert html.count("</script>") == 3
    assert "alert(1)</script>" not in html
    assert data_of(html)["picture"]["name"].endswith("⟦script⟧.png")


def test_the_page_forbids_and_names_no_address() -> None:
    web = resources.files("lushan.tour").joinpath("web")
    for file in web.iterdir():
        text = file.read_text(encoding="utf-8")
        for address in re.findall(r"(?:https?:)?//[\w.]+[^\s\"'`)]*", text):
            assert address == "http://www.w3.org/2000/svg" or not re.match(r"https?:", address)
        assert "fetch(" not in text
        assert "innerHTML" not in text
    assert "default-src 'none'" in web.joinpath("page.html").read_text(encoding="utf-8")


def test_both_languages_have_every_text_that_is_used() -> None:
    folder = resources.files("lushan.tour")
    texts = {
        language: json.loads(folder.joinpath(f"texts/{language}.json").read_text(encoding="utf-8"))
        for language in ("en", "zh")
    }
    assert texts["en"].keys() == texts["zh"].keys()
    names = re.compile(r"\{(\w+)\}")
    quantities = {"macs", "yi", "weights"}  # billions here, hundreds of millions there
    for key, text in texts["en"].items():
        other = texts["zh"][key]
        assert set(names.findall(text)) ^ set(names.findall(other)) <= quantities, key
        same = re.fullmatch(r"language|change\.yuv\d+|pooling\.before", key)
        if re.search("[a-z]{4}", text) and not same:
            assert re.search("[\u4e00-\u9fff]", other), key
    script = "".join(
        file.read_text(encoding="utf-8")
        for file in folder.joinpath("web").iterdir()
        if file.name.endswith(".js")
    )
    for pattern in (r'paragraph\("([\w.]+)"', r'truth\("([\w.]+)"', r'said\("\w+", "([\w.]+)"',
                    r'line\("([\w.]+)"', r'button\("([\w.]+)"'):  # fmt: skip
        for key in re.findall(pattern, script):
            assert key in texts["en"], key


def test_what_cannot_be_shown_is_named(model_folder: Path, tmp_path: Path) -> None:
    with load(model_folder) as recognizer:
        with pytest.raises(UsageError, match="language should be one of en, zh"):
            page(recognizer, PIXELS, "fr")
        with pytest.raises(PictureError, match="no such file"):
            page(recognizer, tmp_path / "nowhere.png")
