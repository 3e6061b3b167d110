"""``lushan info``, ``lushan models``, ``lushan --help``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lushan


def test_info_of_resnet50_equals_the_published_counts(run) -> None:
    facts = json.loads(run("info", "resnet50", "--format", "json").out)
    assert facts["parameters"] == 25_557_032
    assert facts["weighted_layers"] == 50
    assert facts["projections"] == 4
    assert facts["input_size"] == [3, 224, 224]
    assert round(facts["multiply_accumulates"] / 1e9, 2) == 4.09
    assert facts["classes"] == 1000
    text = run("info", "resnet50").out
    assert "25,557,032" in text
    assert "4.09 GMAC" in text


def test_info_lists_layers_of_a_model_folder(run, model_folder: Path) -> None:
    facts = json.loads(run("info", model_folder, "--layers", "--format", "json").out)
    assert facts["input_size"] == [3, 32, 32]
    layers = {layer["name"]: layer for layer in facts["layers"]}
    assert layers["layer2.0.conv1"]["output_shape"] == [16, 16, 16]
    text = run("info", model_folder, "--layers").out
    assert "layer2.0.conv1" in text
    assert "16×16×16" in text


def test_info_of_the_installation(run) -> None:
    facts = json.loads(run("info", "--format", "json").out)
    assert facts["lushan"] == lushan.__version__
    assert "reference" in facts["engines"]


def test_info_of_nothing_known(run) -> None:
    result = run("info", "resnet51")
    assert result.status == 2
    assert "resnet51: no such file or folder" in result.err


def test_models_lists_the_family(run) -> None:
    listed = json.loads(run("models", "--format", "json").out)
    names = [row["architecture"] for row in listed["architectures"]]
    assert "resnet152" in names
    assert "resnet110_cifar" in names
    assert "resnet50" in run("models").out


def test_version_and_help(run) -> None:
    assert run("--version").out == f"lushan {lushan.__version__}\n"
    shown = run("--help")
    assert shown.status == 0
    for verb in ("classify", "evaluate", "info", "models"):
        assert verb in shown.out


def test_a_reader_that_goes_away_is_no_error(model_folder: Path) -> None:
    code = "from lushan.cli import main; main()"
    command = f"{sys.executable} -c '{code}' info {model_folder} --layers | true"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stderr == ""
