"""From a name to a model: whatever is wrong, the file at fault is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lushan.errors import ModelError
from lushan.models.zoo import load_model
from support.small_models import write_small_model


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
        ({"pretrained_cfg": {"crop_pct": 1e-9}}, "preprocessing: crop_pct must be"),
        ({"pretrained_cfg": {"input_size": [3, 16384, 16384]}}, "from 1 to 2048, it is 16384"),
        ({"label_names": None, "label_descriptions": {"0": {"en": 1}}}, "label_descriptions"),
    ],
)
def test_errors_of_a_configuration_name_it(
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


def test_descriptions_in_two_languages(tmp_path: Path) -> None:
    descriptions = {"n02123045": {"en": "moggy", "zh": "猫咪"}}
    model = load_model(write_small_model(tmp_path / "m", label_descriptions=descriptions))
    assert (model.labels.description(0, "en"), model.labels.description(0, "zh")) == (
        "moggy",
        "猫咪",
    )


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_what_is_neither_a_folder_nor_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle.th").symlink_to("circle.th")
    for name in ("pipe", "circle.th"):
        with pytest.raises(ModelError, match=f"{name}: neither a folder nor a file, so no model"):
            load_model(tmp_path / name)
