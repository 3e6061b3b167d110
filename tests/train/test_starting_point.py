"""The network of a run and its config.json, from settings, classes and other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lushan.errors import UsageError
from lushan.models.initialize import initial_weights
from lushan.models.labels import labels_for
from lushan.models.zoo import load_model
from lushan.train.settings import Settings
from lushan.train.starting_point import StartingPoint, configure, starting_weights


def start(settings: Settings, *classes: str) -> StartingPoint:
    return StartingPoint.of(configure(settings, classes, {}))


def test_architectures() -> None:
    config = configure(Settings(), ("a", "b"), {"a": {"en": "Ay", "zh": "甲"}})
    assert (config.architecture, config.num_classes) == ("resnet18", 2)
    assert config.label_descriptions == {"a": {"en": "Ay", "zh": "甲"}}
    assert config.pretrained_cfg["input_size"] == [3, 224, 224]
    cifar = start(Settings(model="resnet20_cifar", size=40), *"abc")
    assert cifar.graph.outputs == ("linear",)
    assert (cifar.preprocessing.height, cifar.preprocessing.crop_pct) == (40, 1.0)
    own = configure(Settings(model="resnet18", model_args={"stem_kernel": 3}), ("a", "b"), {})
    assert own.architecture == "resnet"
    assert own.model_args["stem_kernel"] == 3
    assert StartingPoint.of(own).network.classes == 2


def test_names_of_wnids_are_those_of_lushan() -> None:
    config = configure(
        Settings(), ("n01443537", "rose"), {"n01443537": {"en": "goldfish, Carassius"}}
    )
    assert config.label_descriptions is None
    labels = labels_for(config.label_names, config.label_descriptions, 2)
    assert (labels.english[0], labels.chinese[0]) == ("goldfish", "金鱼")


def test_weights_by_the_seed() -> None:
    settings = Settings(model="resnet20_cifar", seed=4)
    point = start(settings, *"abc")
    expected = initial_weights(point.graph, seed=4)
    for name, array in starting_weights(settings, point).items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.mark.parametrize("same", [True, False])
def test_weights_of_another_model(model_folder: Path, same: bool) -> None:
    model = load_model(model_folder)
    settings = Settings(init=str(model_folder), seed=2)
    names = model.labels.names if same else ("cat", "dog")
    point = start(settings, *names)
    assert point.preprocessing == model.preprocessing
    weights = starting_weights(settings, point)
    fresh = initial_weights(point.graph, seed=2)
    for name, array in weights.items():
        taken = same or not name.startswith("fc.")
        np.testing.assert_array_equal(array, model.weights[name] if taken else fresh[name])
    with pytest.raises(UsageError, match="its weights are of another network; these differ"):
        other = Settings(init=str(model_folder), model="resnet18")
        starting_weights(other, start(other, *names))
