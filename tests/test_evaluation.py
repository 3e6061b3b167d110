"""Counting correct answers: top-5 among more than five classes, and what is not counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lushan
from lushan.errors import UsageError
from lushan.evaluation import evaluate, labelled_pictures
from lushan.models.labels import Labels
from support.small_models import NETWORK, write_small_model

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lushan.Recognizer]:
    """Return a recognizer of seven classes, so that top-5 can be wrong."""
    folder = tmp_path_factory.mktemp("model") / "seven"
    write_small_model(
        folder, network=NETWORK.__class__(**{**vars(NETWORK), "classes": 7}), label_names=NAMES
    )
    with lushan.load(folder) as loaded:
        yield loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    for name in NAMES:
        (tmp_path / name / "below").mkdir(parents=True)
        for place in ("0.png", "1.png", "below/2.png"):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / place)
    return tmp_path


def test_top_1_and_top_5(recognizer: lushan.Recognizer, folder: Path) -> None:
    top1 = top5 = 0
    for path in folder.rglob("*.png"):
        name = path.relative_to(folder).parts[0]
        answers = [prediction.label for prediction in recognizer.classify(path, top=7)]
        top1 += answers[0] == name
        top5 += name in answers[:5]
    assert 0 < top1 < top5 < 21
    done: list[tuple[int, int]] = []
    counts = evaluate(recognizer, folder, progress=lambda *now: done.append(now))
    assert (counts.images, counts.top1, counts.top5, counts.errors) == (21, top1, top5, [])
    assert done == [(index, 21) for index in range(1, 22)]


def test_what_is_not_counted_is_said(recognizer: lushan.Recognizer, folder: Path) -> None:
    before = evaluate(recognizer, folder)
    for name in ("x.png", "y.jpg"):
        (folder / name).write_bytes((folder / "a/0.png").read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    (folder / "b/broken.png").write_bytes(b"x")
    after = evaluate(recognizer, folder)
    assert (before.unlabelled, after.unlabelled) == (0, 2)
    assert (after.images, after.top1, after.top5) == (before.images, before.top1, before.top5)
    [(path, error)] = after.errors
    assert path == str(folder / "b/broken.png")
    assert path in str(error)


def test_folders_are_matched_to_the_ids_by_name(tmp_path: Path) -> None:
    labels = Labels(("dog", "cat"), ("dog", "cat"), ("狗", "猫"))
    for name in ("cat", "dog", ".cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"x")
    assert labelled_pictures(tmp_path, labels) == [
        (tmp_path / "cat/0.png", 1),
        (tmp_path / "dog/0.png", 0),
    ]
    for index in range(12):
        (tmp_path / f"other{index:02}").mkdir()
    with pytest.raises(UsageError, match=r"12 of its folders .* other08, other09, … \(\+2\); its"):
        labelled_pictures(tmp_path, labels)
