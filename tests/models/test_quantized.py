"""Quantised model folders: a quarter of the size, the same answers, and nothing taken on trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lushan
from lushan import passes
from lushan.errors import ModelError, UsageError
from lushan.models.checkpoint import from_parameters, write_model_folder
from lushan.models.quantized import quantization_config
from lushan.models.resnet import ARCHITECTURES
from lushan.models.zoo import Model, load_model, random_model
from lushan.passes.quantize import quantized_values
from lushan.reference.quantization import QuantizationParameters, range_parameters

# Files rely on these names.
NAMES = """\
avgpool.scale avgpool.zero_point conv1.bias conv1.weight conv1.weight_scale fc.bias fc.weight
fc.weight_scale input.scale input.zero_point layer1.0.conv1.bias layer1.0.conv1.weight
layer1.0.conv1.weight_scale layer1.0.conv2.bias layer1.0.conv2.weight layer1.0.conv2.weight_scale
layer1.0.relu1.scale layer1.0.relu1.zero_point layer1.0.relu2.scale layer1.0.relu2.zero_point
layer2.0.conv1.bias layer2.0.conv1.weight layer2.0.conv1.weight_scale layer2.0.conv2.bias
layer2.0.conv2.weight layer2.0.conv2.weight_scale layer2.0.downsample.0.bias
layer2.0.downsample.0.weight layer2.0.downsample.0.weight_scale layer2.0.downsample.1.scale
layer2.0.downsample.1.zero_point layer2.0.relu1.scale layer2.0.relu1.zero_point
layer2.0.relu2.scale layer2.0.relu2.zero_point relu.scale relu.zero_point
""".split()


def quantized(model: Model) -> Model:
    """Return a model on bytes, for ranges out of thin air."""
    names = quantized_values(passes.apply(model.graph, model.weights)[0])
    parameters = {name: range_parameters(0.0, 3.0) for name in names}
    scale, zero_point = np.full(3, 0.02, np.float32), np.full(3, 120.25, np.float32)
    parameters["input"] = QuantizationParameters(scale, zero_point)
    graph, weights = passes.apply_and_quantize(model.graph, model.weights, parameters)
    config = type(model.config)(**{**vars(model.config), "extra": quantization_config()})
    return type(model)(**{**vars(model), "graph": graph, "weights": weights, "config": config})


def write(folder: Path, model: Model) -> Path:
    write_model_folder(folder, model.config, from_parameters(model.weights))
    return folder


@pytest.fixture
def folder(tmp_path: Path, model_folder: Path) -> Path:
    return write(tmp_path / "int8", quantized(load_model(model_folder)))


def change(folder: Path, name: str, value: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, folder / "model.safetensors")


def test_what_is_written_is_read_back(folder: Path, model_folder: Path) -> None:
    model, original = load_model(folder), quantized(load_model(model_folder))
    assert model.precision == "int8"
    assert model.graph == original.graph
    assert sorted(model.weights) == NAMES
    for name, array in original.weights.items():
        np.testing.assert_array_equal(model.weights[name], array, strict=True)
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    with lushan.load(folder) as ours, lushan.Recognizer(original) as theirs:
        np.testing.assert_array_equal(ours.scores(x), theirs.scores(x), strict=True)


def test_resnet50_takes_a_quarter(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", quantized(random_model("resnet50", seed=0)))
    assert (folder / "model.safetensors").stat().st_size < 26.1e6
    assert ARCHITECTURES["resnet50"] == load_model(folder).network


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("relu.scale", None, r"missing tensors \(1\): relu\.scale"),
        ("input.scale", None, r"missing tensors \(1\): input\.scale"),
        ("conv1.weight_scale", None, r"missing tensors \(1\): conv1\.weight_scale"),
        ("conv1.weight", None, r"missing tensors \(1\): conv1\.weight"),
        ("more", np.ones(1, np.float32), r"unexpected tensors \(1\): more"),
        ("relu.scale", np.float32(0), r"scales that are 0 or below in \(1\): relu\.scale"),
        ("relu.scale", np.float32(1e-40), r"scales that are 0 or below in \(1\): relu\.scale"),
        ("relu.scale", np.float32(np.nan), r"NaN or infinity in \(1\): relu\.scale"),
        ("conv1.weight_scale", -np.ones(8, np.float32), r"scales .* in \(1\): conv1\.weight_s"),
        ("conv1.weight_scale", np.ones(7, np.float32), r"conv1\.weight_scale is \[7\], expected"),
        ("relu.zero_point", np.float32(0.5), r"no whole numbers .* in \(1\): relu\.zero_point"),
        ("relu.zero_point", np.float32(256), r"no whole numbers .* in \(1\): relu\.zero_point"),
        ("input.zero_point", np.full(3, -1.0, np.float32), r"in \(1\): input\.zero_point"),
        ("relu.scale", np.int8(1), r"not floating-point .*\(1\): relu\.scale is int8"),
        ("fc.weight", np.ones((3, 16), np.float32), r"not int8 \(1\): fc\.weight is float32"),
    ],
)
def test_what_is_wrong_with_the_tensors_is_named(
    folder: Path, name: str, value: Any, message: str
) -> None:
    change(folder, name, None if value is None else np.asarray(value))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


def test_large_tensors_are_looked_at_when_they_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", quantized(random_model("resnet20_cifar", seed=0)))
    wrong = load_file(folder / "model.safetensors")["layer3.2.conv2.weight"].astype(np.float32)
    change(folder, "layer3.2.conv2.weight", wrong)
    with pytest.raises(ModelError, match=r"not int8 \(1\): layer3\.2\.conv2\.weight is float32"):
        lushan.load(folder)


def test_int8_weights_are_no_weights_of_a_float32_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"not floating-point numbers .* is int8"):
        load_model(folder)


@pytest.mark.parametrize(
    "how", [{"quant_method": "gptq", "bits": 4}, {**quantization_config(), "version": 2}, "int8"]
)
def test_models_that_others_quantised(folder: Path, how: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": how}))
    with pytest.raises(ModelError, match="only models that lushan quantised can be read") as caught:
        load_model(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_precision_is_what_was_asked_for(folder: Path, model_folder: Path) -> None:
    for path, precision, other in ((folder, "int8", "float32"), (model_folder, "float32", "int8")):
        with lushan.load(path, precision=precision) as recognizer:
            assert recognizer.model.precision == precision
        with pytest.raises(UsageError, match=f"computes on {precision}, not on {other}"):
            lushan.load(path, precision=other)
