"""Comparing two networks: ratios as by hand, and a page in two languages that shows them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from lushan import passes
from lushan.graph import interpret
from lushan.models.zoo import Model, load_model
from lushan.passes.quantize import byte_parameters
from lushan.quantization.calibration import calibrate
from lushan.quantization.comparison import Comparison, ValueComparison, compare
from lushan.quantization.quantized_model import quantize_model
from lushan.quantization.report import TEXTS, Answers, to_html
from lushan.reference.quantization import dequantize
from support.quantized import signal_to_noise


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(6)]


@pytest.fixture(scope="module")
def models(model_folder: Path, pictures: list[np.ndarray]) -> tuple[Model, Model]:
    model = load_model(model_folder)
    return model, quantize_model(model, calibrate(model, pictures), "mse")


@pytest.fixture(scope="module")
def comparison(models: tuple[Model, Model], pictures: list[np.ndarray]) -> Comparison:
    return compare(*models, [*pictures, b"no picture"])


def test_every_ratio_is_that_of_the_values(
    models: tuple[Model, Model], pictures: list[np.ndarray], comparison: Comparison
) -> None:
    model, quantized = models
    x = np.stack([model.preprocessing.normalize(p) for p in pictures])
    names = [value.name for value in comparison.values]
    graph, weights = passes.apply(model.graph, model.weights)
    exact = interpret.compile(graph, weights, keep=names)({"input": x})
    ours = interpret.compile(quantized.graph, quantized.weights, keep=names)({"input": x})
    parameters = byte_parameters(quantized.graph)
    assert names[-1] == "fc"
    assert len(names) == 8
    for value in comparison.values:
        other = ours[value.name]
        if value.name != "fc":
            scale, zero_point = (quantized.weights[key] for key in parameters[value.name])
            ends = (other == 255) | ((other == 0) & (zero_point > 0))
            assert value.clipped == pytest.approx(ends.mean())
            assert (value.scale, value.zero_point) == (float(scale), float(zero_point))
            other = dequantize(other, scale, zero_point)
        expected = signal_to_noise(exact[value.name], other)
        assert value.signal_to_noise == pytest.approx(expected, abs=0.05)
    assert comparison.pictures == 6
    same = exact["fc"].argmax(1) == ours["fc"].argmax(1)
    assert comparison.same_top1 == same.sum()
    assert comparison.scores.signal_to_noise > 25


def test_ratios_without_a_signal_or_without_an_error() -> None:
    value = ValueComparison("x")
    value.add(np.ones(3, np.float32), np.ones(3, np.float32))
    assert value.signal_to_noise == math.inf
    value = ValueComparison("x")
    value.add(np.zeros(3, np.float32), np.ones(3, np.float32))
    assert value.signal_to_noise == -math.inf


@pytest.mark.parametrize("lang", TEXTS)
def test_the_page_shows_every_value_and_is_safe(comparison: Comparison, lang: str) -> None:
    answers = Answers(200, (150, 190), (149, 190))
    page = to_html(
        comparison,
        model="<script>m",
        method="mse",
        pictures=6,
        sizes=(4_000_000, 1_010_000),
        answers=answers,
        lang=lang,
    )
    for value in comparison.values:
        assert f"<td>{value.name}</td><td>{value.signal_to_noise:.1f} dB</td>" in page
    assert "<script>" not in page
    assert "4.00 MB → 1.01 MB" in page
    assert "<td>150</td><td>149</td><td>-0.50</td>" in page
    assert f'lang="{lang}"' in page
    assert not re.search(r"src=|href=|http", page)  # it needs nothing else
    assert not re.search(r"[{}]", re.sub("<style>.*</style>", "", page, flags=re.DOTALL))


def test_the_page_exists_in_two_languages_with_the_same_fields() -> None:
    english, chinese = TEXTS["en"], TEXTS["zh"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", chinese[key]))
        if key not in ("ratio",):
            assert re.search("[\u4e00-\u9fff]", chinese[key])
