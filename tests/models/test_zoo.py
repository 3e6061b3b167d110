"""From a name to a model: what is looked for where, and what a mistyped name is told."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import lushan
from lushan.errors import LushanError, MissingExtraError, ModelError
from lushan.models import hub
from lushan.models.checkpoint import from_parameters, write_model_folder
from lushan.models.config import ModelConfig
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.models.zoo import describe_network, load_model, natural_size
from support.random_graphs import random_weights
from support.small_models import write_small_model


def changed(folder: Path, **changes: object) -> Path:
    """Change the configuration of a model folder."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["pretrained_cfg"] |= changes.pop("pretrained_cfg", {})
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder


def test_descriptions_in_two_languages_from_the_file_to_the_answer(tmp_path: Path) -> None:
    descriptions = {"n02123045": {"en": "tabby", "zh": "狸花猫"}, "n01443537": {"zh": "金色的鱼"}}
    folder = write_small_model(tmp_path / "m", label_descriptions=descriptions)
    with lushan.load(folder) as recognizer:
        labels = recognizer.labels
    assert labels.english == ("tabby", "goldfish", "jeep")
    assert labels.chinese == ("狸花猫", "金色的鱼", "吉普车")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_cfg": {"mean": [1, 2]}}, "pretrained_cfg.mean must be three numbers"),
        ({"pretrained_cfg": {"crop_mode": "x"}}, "pretrained_cfg.crop_mode must be one of center"),
        ({"label_names": ["a", "b", "a"]}, "label_names has 3 ids, of which only 2 differ: a"),
        ({"label_names": ["a"]}, "label_names has 1 ids, but the model has 3 classes"),
        ({"architecture": "vgg16"}, "the architecture 'vgg16' is not one of"),
        ({"model_args": {"block": "basic"}}, "the description of a network lacks"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told_with_its_file(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder = changed(write_small_model(tmp_path / "m"), **changes)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {message}")
    # The same file beside bare weights.
    with pytest.raises(ModelError) as caught:
        load_model(folder / "model.safetensors")
    assert str(caught.value).startswith(f"{folder / 'config.json'}: {message}")


def test_variances_below_zero_are_refused_by_name(tmp_path: Path) -> None:
    graph = build(ARCHITECTURES["resnet20_cifar"])
    weights = random_weights(graph, 0)
    weights["layer1.0.bn1.running_var"][3] = -1
    write_model_folder(tmp_path, ModelConfig("resnet20_cifar", 10), from_parameters(weights))
    with pytest.raises(
        ModelError, match=r"below 0 in \(1\): layer1\.0\.bn1\.running_var"
    ) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_classifier_may_be_told_by_the_configuration() -> None:
    config = ModelConfig("resnet18", 7, pretrained_cfg={"classifier": "head"})
    network = describe_network(config)
    assert (network.classifier, network.classes) == ("head", 7)
    assert natural_size(network) == (224, 224)
    assert natural_size(ARCHITECTURES["resnet20_cifar"]) == (32, 32)


def test_bare_weights_of_no_architecture(tmp_path: Path) -> None:
    folder = write_small_model(tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"m/model\.safetensors: its \d+ tensors are not those of"):
        load_model(folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vgg" * 1000}, "the architecture 'vggvggvggvgg...gvggvggvggvgg' is not"),
        ({"model_args": {"block": "basic", "depths": [10**9], "widths": [8]}}, "10000 blocks"),
        ({"model_args": {"block": "basic", "depths": [1], "widths": [10**12]}}, "widths of a net"),
        ({"model_args": {"block": "basic", "depths": [1], "width": [8]}}, "unknown key 'width'"),
        ({"pretrained_cfg": {"crop_pct": 1e-9}}, "pretrained_cfg.crop_pct must be"),
        ({"pretrained_cfg": {"input_size": [3, 16384, 16384]}}, "from 1 to 2048, it is 16384"),
        ({"label_names": None, "label_descriptions": {"0": {"en": 1}}}, "label_descriptions"),
    ],
)
def test_hostile_configurations_are_named_and_bounded(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for name in (folder, folder / "model.safetensors"):
        with pytest.raises(ModelError) as caught:
            load_model(name)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
        assert len(str(caught.value)) < 500
        assert caught.value.message("zh").startswith(str(path))


def test_two_layers_of_one_name(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model_args"]["classifier"] = "conv1"
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert str(caught.value) == f"{path}: the value 'conv1.weight' is defined twice"


def test_more_classes_than_the_weights_have(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "label_names": None, "num_classes": 10_000_000}))
    with pytest.raises(ModelError, match=r"fc.bias is \[3\], expected \[10000000\]"):
        load_model(folder)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_what_is_neither_a_folder_nor_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle.th").symlink_to("circle.th")
    for name in ("pipe", "circle.th"):
        with pytest.raises(ModelError, match=f"{name}: neither a folder nor a file, so no model"):
            load_model(tmp_path / name)


# Names of the hub, and what looks like them.


def test_a_path_below_a_folder_that_exists_is_no_name_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(name: str) -> Path:
        raise AssertionError(f"the hub was asked for {name}")

    monkeypatch.setattr(hub, "download_model", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelError) as caught:
        load_model("models/resnet50")
    assert str(caught.value) == (
        "models/resnet50: no such file or folder here; "
        "a model of the hub is named hf-hub:models/resnet50"
    )
    with pytest.raises(AssertionError, match="asked for hf-hub:models/resnet50"):
        load_model("hf-hub:models/resnet50")


@pytest.mark.parametrize("there", [True, False])
def test_a_mistyped_path_is_told_that_nothing_is_here(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:

        def refuse(name: str) -> Path:
            raise ModelError("{repository}: the hub is on holiday", repository=name)

        monkeypatch.setattr(hub, "download_model", refuse)
    else:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LushanError, match="no such file or folder here; ") as caught:
        load_model("modles/resnet50")
    assert "modles/resnet50" in str(caught.value)
    assert isinstance(caught.value, ModelError if there else MissingExtraError)
    assert ("the hub is on holiday" if there else "lushan[hub]") in str(caught.value)


def test_a_model_of_the_hub_is_loaded_from_the_folder_that_it_came_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small_model(tmp_path / "snapshot")
    monkeypatch.setattr(hub, "download_model", lambda name: folder)
    model = load_model("timm/small")
    assert model.name == "timm/small"
    here = load_model(folder)
    assert all(np.array_equal(model.weights[name], here.weights[name]) for name in here.weights)
    shutil.rmtree(folder)
