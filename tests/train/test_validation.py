"""Counting answers, confusions and the hardest pictures, against counts by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lushan.train.dataset import Sample
from lushan.train.loader import Batch
from lushan.train.sampling import target_rows
from lushan.train.validation import HARDEST, most_confused, validate

CLASSES = 7


class Scores:
    """A program whose scores are the pixels it is given."""

    def __call__(self, inputs, *, threads=None):
        return {"fc": inputs["input"].reshape(len(inputs["input"]), CLASSES)}

    def prepare(self, input_shapes) -> None: ...
    def close(self) -> None: ...


def run(scores: np.ndarray, labels: np.ndarray, batch: int = 16):
    samples = [Sample(Path(str(index)), int(label)) for index, label in enumerate(labels)]
    batches = [
        Batch(
            scores[at : at + batch].reshape(-1, 1, CLASSES, 1),
            labels[at : at + batch],
            target_rows(labels[at : at + batch], CLASSES),
        )
        for at in range(0, len(labels), batch)
    ]
    return validate(Scores(), "fc", batches, samples, CLASSES)


def test_counts() -> None:
    random = np.random.default_rng(0)
    scores = random.standard_normal((100, CLASSES), np.float32)
    labels = random.integers(0, CLASSES, 100)
    found = run(scores, labels)
    ranks = (-scores).argsort(axis=1)
    assert found.images == 100
    assert found.top1 == (ranks[:, 0] == labels).sum()
    assert found.top5 == (ranks[:, :5] == labels[:, None]).any(axis=1).sum()
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    losses = -np.log(probabilities[np.arange(100), labels])
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    expected = np.zeros((CLASSES, CLASSES), int)
    for label, answer in zip(labels, ranks[:, 0], strict=True):
        expected[label, answer] += 1
    np.testing.assert_array_equal(found.confusion, expected)
    order = (-losses).argsort()[:HARDEST]
    assert [int(str(p.path)) for p in found.hardest] == order.tolist()
    for picture, index in zip(found.hardest, order, strict=True):
        assert (picture.label, picture.answer) == (labels[index], ranks[index, 0])
        assert picture.loss == pytest.approx(losses[index], rel=1e-5)
        assert picture.probability == pytest.approx(probabilities[index].max(), rel=1e-5)
    assert run(scores, labels, 7).hardest == found.hardest


def test_most_confused() -> None:
    confusion = np.array([[9, 1, 0], [4, 5, 2], [0, 2, 8]])
    assert most_confused(confusion) == [(1, 0, 4), (1, 2, 2), (2, 1, 2), (0, 1, 1)]
    assert most_confused(confusion, 1) == [(1, 0, 4)]
    assert most_confused(np.diag([3, 2])) == []
    assert confusion[0, 0] == 9


def test_scores_that_are_no_numbers() -> None:
    scores = np.zeros((20, CLASSES), np.float32)
    scores[3] = np.nan
    found = run(scores, np.zeros(20, np.int64), 10)
    assert math.isnan(found.loss)
    assert (found.images, found.top1) == (20, 10)
