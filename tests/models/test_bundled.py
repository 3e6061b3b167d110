"""The models that ship with lushan recognise what their cards say they do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import lushan
from lushan.evaluation import evaluate
from lushan.models.zoo import bundled_folder, bundled_names, load_model

PARTS = {"resnet20-cifar10": "cifar_part", "default": "tiny_imagenet_part"}


def test_they_are_there() -> None:
    assert bundled_names() == sorted(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_the_card_says_what_was_counted(name: str) -> None:
    folder = bundled_folder(name)
    counted = load_model(name).config.extra["evaluation"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for key in ("top1", "top5"):
        assert f"{100 * counted[key] / counted['images']:.2f} %" in card
        assert f"{counted[key]:,}" in card
    size = (folder / "model.safetensors").stat().st_size
    assert size <= 24e6
    (megabytes,) = re.findall(r"float16, ([\d.]+) MB", card)
    assert float(megabytes) == pytest.approx(size / 1e6, rel=0.01)


@pytest.mark.shared
@pytest.mark.parametrize("name", PARTS)
def test_a_thousand_pictures(name: str, request: pytest.FixtureRequest) -> None:
    pictures = request.getfixturevalue(PARTS[name])
    with lushan.load(name) as recognizer:
        counted = recognizer.model.config.extra["evaluation"]
        found = evaluate(recognizer, pictures)
    assert found.images == 1000
    for key, right in (("top1", found.top1), ("top5", found.top5)):
        share = counted[key] / counted["images"]
        deviation = np.sqrt(share * (1 - share) / found.images)
        assert abs(right / found.images - share) < 4 * deviation


@pytest.mark.shared
def test_the_default_knows_photographs(photos: list[Path]) -> None:
    """At full size, of whatever shape: of those of its classes, two thirds at least."""
    with lushan.load() as recognizer:
        known = [path for path in photos if path.name.split("_")[0] in recognizer.labels.names]
        answers = [recognizer.classify(path) for path in known]
    right = [
        path.name.split("_")[0] in [prediction.label for prediction in answer]
        for path, answer in zip(known, answers, strict=True)
    ]
    assert len(known) == 10
    assert sum(right) >= 2 * len(known) / 3


def test_the_default_speaks_two_languages() -> None:
    labels = load_model("default").labels
    for index in range(len(labels)):
        assert labels.description(index, "en").isascii()
        assert not labels.description(index, "zh").isascii()
