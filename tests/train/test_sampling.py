"""Who comes when: every picture once, or every class as often; the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.reference.cross_entropy import cross_entropy
from lushan.train.sampling import (
    Purpose,
    epoch_order,
    generator,
    inverse_class_weights,
    target_rows,
)

LABELS = np.repeat(np.arange(4), (40, 10, 5, 1))


def test_an_epoch_has_every_picture_once() -> None:
    order = epoch_order(LABELS, seed=3, epoch=0)
    assert sorted(order) == list(range(len(LABELS)))
    assert order.tolist() == epoch_order(LABELS, seed=3, epoch=0).tolist()
    others = ((3, 1), (4, 0))
    assert all(order.tolist() != epoch_order(LABELS, seed=s, epoch=e).tolist() for s, e in others)


@given(st.lists(st.integers(0, 4), min_size=5, max_size=80), st.integers(0, 5))
def test_balanced_has_every_class_as_often(labels: list[int], epoch: int) -> None:
    array = np.array(labels, np.int64)
    order = epoch_order(array, seed=1, epoch=epoch, balanced=True)
    assert len(order) == len(labels)
    counts = np.bincount(array[order])
    present = counts[np.unique(array)]
    assert present.max() - present.min() <= 1
    for label in np.unique(array):
        times = np.bincount(order[array[order] == label], minlength=len(labels))
        members = times[array == label]
        assert members.max() - members.min() <= 1  # of its pictures none more than once more


def test_every_purpose_place_and_epoch_has_numbers_of_its_own() -> None:
    keys = [(s, p, e, i) for s in (0, 1) for p in Purpose for e in (0, 1) for i in (0, 1)]
    assert len({generator(*key).random() for key in keys}) == len(keys)


def test_class_weights_make_classes_count_as_much() -> None:
    weights = inverse_class_weights(LABELS, 5)
    counts = np.bincount(LABELS, minlength=5)
    np.testing.assert_allclose((weights * counts)[:4], len(LABELS) / 4, rtol=1e-6)
    assert weights[4] == 0
    assert weights[LABELS].mean() == pytest.approx(1)


def test_targets_are_what_cross_entropy_makes_of_labels() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 16)
    scores = random.standard_normal((16, 4), np.float32)
    weights = np.array([1, 2, 0.5, 3], np.float32)
    rows = target_rows(labels, 4, label_smoothing=0.2, class_weights=weights)
    assert rows.dtype == np.float32
    plain = target_rows(labels, 4, label_smoothing=0.2)
    np.testing.assert_allclose(plain.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        cross_entropy(scores, plain), cross_entropy(scores, labels, label_smoothing=0.2), rtol=1e-6
    )
    each = [cross_entropy(scores[n : n + 1], plain[n : n + 1]) for n in range(16)]
    np.testing.assert_allclose(
        cross_entropy(scores, rows), (np.array(each) * weights[labels]).mean(), rtol=1e-6
    )
