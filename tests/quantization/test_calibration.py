"""Calibration: what is observed, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lushan import passes
from lushan.errors import ModelError, UsageError
from lushan.graph import interpret
from lushan.image.preprocess import Preprocessing
from lushan.models.zoo import Model, load_model
from lushan.quantization import calibration
from lushan.quantization.calibration import calibrate, choose_parameters, pixel_parameters
from lushan.quantization.quantized_model import quantize_model
from lushan.quantization.ranges import METHODS
from lushan.recognizer import Recognizer
from support.quantized import signal_to_noise


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return pictures with something on them: noise, lighter on one side."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0, 1, 32)[:, None]
    noise = random.random((count, 32, 32, 3)) * random.random((count, 1, 1, 3))
    return list((255 * (0.5 * noise + 0.5 * slope)).astype(np.uint8))


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder)


def test_ranges_are_those_of_the_values(model: Model) -> None:
    found = calibrate(model, pictures(5))
    assert found.pictures == 5
    x = np.stack([model.preprocessing.normalize(pixels) for pixels in pictures(5)])
    graph, weights = passes.apply(model.graph, model.weights)
    names = list(found.histograms)
    values = interpret.compile(graph, weights, keep=names)({"input": x})
    assert "input" in names
    assert len(names) == 8  # input, 5 convolutions, 1 projection, 1 average
    for name, histogram in found.histograms.items():
        assert histogram.counts.sum() == values[name].size
        np.testing.assert_allclose(histogram.low, values[name].min(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(histogram.high, values[name].max(), rtol=1e-4, atol=1e-5)


def test_some_pictures_at_a_time_give_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate(model, pictures(5))
    sizes: list[int] = []
    monkeypatch.setattr(calibration, "_BATCH_BYTES", 1)
    for batch in calibration.batches(model, pictures(3), ["input"], []):
        sizes.append(len(batch))
    assert sizes == [1, 1, 1]
    told: list[int] = []
    parts = calibrate(model, iter(pictures(5)), progress=told.append)
    assert told == [1, 2, 3, 4, 5]
    for name, histogram in parts.histograms.items():
        np.testing.assert_array_equal(histogram.counts, whole.histograms[name].counts)


@pytest.mark.parametrize("method", METHODS)
def test_a_quantised_model_gives_nearly_the_same_scores(model: Model, method: str) -> None:
    quantized = quantize_model(model, calibrate(model, pictures(20)), method)
    assert (model.precision, quantized.precision) == ("float32", "int8")
    x = np.stack([model.preprocessing.normalize(p) for p in pictures(20, seed=1)])
    with Recognizer(model) as exact, Recognizer(quantized) as ours:
        assert signal_to_noise(exact.scores(x), ours.scores(x)) > 25
    how = quantized.config.extra["quantization_config"]
    assert (how["method"], how["pictures"]) == (method, 20)


def test_pictures_that_cannot_be_read_are_left_out_by_name(model: Model, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    found = calibrate(model, [*pictures(2), str(broken), *pictures(1)])
    assert found.pictures == 3
    [(source, error)] = found.errors
    assert source == str(broken)
    assert str(broken) in str(error)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures(model: Model, count: int) -> None:
    with pytest.raises(UsageError, match=f"at least 2 pictures .*; there are {count}"):
        calibrate(model, pictures(count))


def test_a_value_that_is_no_number(model: Model) -> None:
    weights = dict(model.weights)
    weights["layer1.0.conv1.weight"] = weights["layer1.0.conv1.weight"].copy()
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = np.nan
    damaged = replace(model, weights=weights)
    # A ReLU may hide a NaN; the first value that has one is named.
    with pytest.raises(ModelError, match=r"its value layer1\.0\.relu\d is not a finite number"):
        calibrate(damaged, pictures(2))


def test_a_value_that_is_the_same_everywhere(model: Model) -> None:
    weights = dict(model.weights)
    for name in ("layer1.0.bn1.weight", "layer1.0.bn1.bias"):
        weights[name] = np.zeros_like(weights[name])
    dead = replace(model, weights=weights)
    found = calibrate(dead, pictures(3))
    with pytest.raises(UsageError, match=r"value layer1\.0\.relu1 is 0\.0 at every pixel of the 3"):
        quantize_model(dead, found, "mse")


def test_wrong_requests(model: Model) -> None:
    found = calibrate(model, pictures(2))
    with pytest.raises(UsageError, match="one of minmax, percentile, mse; received 'entropy'"):
        choose_parameters(model, found, "entropy")
    with pytest.raises(UsageError, match="the model is quantised already"):
        calibrate(quantize_model(model, found, "mse"), pictures(2))


def test_the_input_is_pixels_where_padding_has_a_byte(model: Model) -> None:
    found = calibrate(model, pictures(2))
    assert choose_parameters(model, found, "mse")["input"].scale.shape == (3,)
    for mean in ((-0.1, 0.5, 0.5), (0.5, 0.5, 1.1)):
        recipe = Preprocessing(height=32, width=32, mean=mean)
        assert pixel_parameters(recipe) is None
        other = replace(model, preprocessing=recipe)
        assert choose_parameters(other, found, "mse")["input"].scale.shape == ()
