"""Settings: read, checked, written and read back; and the recipes that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lushan.errors import UsageError
from lushan.models.summary import summarize
from lushan.train.augmentation import Augmentation
from lushan.train.schedule import Schedule
from lushan.train.settings import Settings, read_settings
from lushan.train.starting_point import StartingPoint, configure

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

FULL: dict[str, Any] = {
    "model": "resnet34",
    "freeze": ["conv1", "layer1"],
    "epochs": 5,
    "sizes": [[0, 32], [3, 48]],
    "preprocessing": {"mean": [0.5, 0.5, 0.5]},
    "schedule": {"kind": "step", "milestones": [0.3]},
    "augmentation": {"crop": "padded", "scale": [0.1, 0.9]},
    "clip": 5,
    "early_stop": 3,
}


def test_what_is_read_is_written() -> None:
    settings = Settings.from_dict(FULL)
    assert settings.freeze == ("conv1", "layer1")
    assert settings.schedule == Schedule("step", milestones=(0.3,))
    assert settings.augmentation == Augmentation("padded", scale=(0.1, 0.9))
    again = Settings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again.to_dict() == settings.to_dict()
    assert Settings.from_dict({}) == Settings()


def test_sizes_and_rates() -> None:
    settings = Settings.from_dict(FULL)
    assert [settings.size_at(epoch) for epoch in range(5)] == [32, 32, 32, 48, 48]
    assert Settings(sizes=((2, 32),)).size_at(1) is None
    assert Settings(batch=256).peak() == pytest.approx(0.2)
    assert Settings(batch=128, init="w").peak() == pytest.approx(0.01)
    assert Settings(learning_rate=0.3, init="w").peak() == 0.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"settings should be an object of settings; received \[\]"),
        ({"epoch": 3}, "settings has no setting 'epoch'; there are model, model_args, init"),
        ({"schedule": {"peak": 1}}, "schedule has no setting 'peak'; there are kind, warmup"),
        ({"augmentation": "all"}, "augmentation should be an object of settings; received 'all'"),
        ({"epochs": 0}, "epochs should be a whole number from 1 to 1000000; received 0"),
        ({"epochs": True}, "epochs should be a whole number"),
        ({"batch": 2.0}, "batch should be a whole number"),
        ({"seed": -1}, "seed should be a whole number from 0"),
        ({"learning_rate": "fast"}, "learning_rate should be a number"),
        ({"momentum": 1}, "momentum should be a number from 0 to 0.9999; received 1"),
        ({"val_fraction": 1}, "val_fraction should be a number from 0.001 to 0.9"),
        ({"size": 5000}, "size should be a whole number from 1 to 2048"),
        ({"sizes": [[3, 32], [1, 16]]}, "sizes should be a whole number from 3 to"),
        ({"sizes": [32, 64]}, r"sizes is \(32, 64\); expected a list of pairs \[epoch, side\]"),
        ({"freeze": "conv1"}, "freeze is 'conv1'; expected a list of texts"),
        ({"model": 18}, "model is 18; expected a text"),
        ({"model_args": []}, r"model_args is \(\); expected an object"),
        ({"keep": "all"}, "keep should be one of best, last; received 'all'"),
        ({"clip": 0}, "clip should be a number"),
        ({"early_stop": 0}, "early_stop should be a whole number from 1"),
    ],
)
def test_what_cannot_be_is_named(values: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings.from_dict(values)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('\ufeff{"epochs": 2}', encoding="utf-8")
    assert read_settings(path) == {"epochs": 2}
    for text, message in (("[1]", "should hold a JSON object"), ("{", "not valid JSON")):
        path.write_text(text)
        with pytest.raises(UsageError, match=rf"s\.json: {message}"):
            read_settings(path)
    with pytest.raises(UsageError, match="the settings cannot be read: No such file"):
        read_settings(tmp_path / "nothing.json")


def test_the_recipes_are_settings_for_the_networks_they_are_called_after() -> None:
    of_the_default = [f"resnet18-tiny-imagenet{run}" for run in ("", "-2", "-3")]
    parameters = {"resnet20-cifar10": 269_722, **dict.fromkeys(of_the_default, 11_271_432)}
    found = {}
    for path in sorted(RECIPES.glob("*.json")):
        settings = Settings.from_dict(read_settings(path))
        classes = [str(index) for index in range(10 if "cifar10" in path.name else 200)]
        start = StartingPoint.of(configure(settings, classes, {}))
        start.check_sizes(settings)
        height, width = start.preprocessing.height, start.preprocessing.width
        found[path.stem] = summarize(start.graph, height, width).parameters
    assert found == parameters
