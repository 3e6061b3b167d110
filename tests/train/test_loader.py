"""Batches: the same whatever the threads, start and memory; bounded; errors come through."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lushan.errors import PictureError
from lushan.image.preprocess import Preprocessing
from lushan.train.augmentation import Augmentation
from lushan.train.dataset import open_image_folder
from lushan.train.loader import AHEAD, Batch, TrainingBatches, ahead_of_time, validation_batches
from lushan.train.picture_check import PictureStore
from support.training_data import write_pictures

PREPROCESSING = Preprocessing(12, 12, crop_pct=1.0)


@pytest.fixture
def batches(tmp_path: Path) -> TrainingBatches:
    samples = open_image_folder(write_pictures(tmp_path / "d", 9)).train
    augmentation = Augmentation("resized", mixup=0.4)
    store = PictureStore(10**9)
    return TrainingBatches(
        samples, 3, store, PREPROCESSING, augmentation, batch=5, seed=7, label_smoothing=0.1
    )


def arrays(batches: list[Batch]) -> list[bytes]:
    return [b.pictures.tobytes() + b.labels.tobytes() + b.targets.tobytes() for b in batches]


def test_nothing_depends_on_threads_memory_or_the_start(batches: TrainingBatches) -> None:
    assert batches.steps == 5
    first = arrays(list(batches.epoch(0)))
    assert len(first) == 5
    again = replace(batches, store=PictureStore(0))
    for workers in (1, 2, 5):
        assert arrays(list(again.epoch(0, workers=workers))) == first
        assert arrays(list(batches.epoch(0, start=3, workers=workers))) == first[3:]
    assert arrays(list(batches.epoch(1))) != first
    assert arrays(list(replace(batches, seed=8).epoch(0))) != first


def test_batches_are_preprocessed_pictures_with_their_labels(batches: TrainingBatches) -> None:
    plain = replace(batches, augmentation=Augmentation("none", flip=0))
    for batch in plain.epoch(2, size=(6, 10)):
        assert batch.pictures.shape == (5, 6, 10, 3)
        assert batch.pictures.dtype == batch.targets.dtype == np.float32
        assert (batch.targets.argmax(axis=1) == batch.labels).all()
        # The classes are colours: the strongest channel is the label (blue, green, red).
        strongest = batch.pictures.mean(axis=(1, 2)).argmax(axis=1)
        assert (2 - strongest == batch.labels).all()


def test_validation_has_every_picture_in_order(tmp_path: Path) -> None:
    samples = open_image_folder(write_pictures(tmp_path / "d", 3)).train
    store = PictureStore(0)
    found = list(validation_batches(samples, 3, store, PREPROCESSING, batch=4, workers=2))
    assert [len(batch.labels) for batch in found] == [4, 4, 1]
    assert np.concatenate([batch.labels for batch in found]).tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_no_more_is_made_than_wanted() -> None:
    lock = threading.Lock()
    made: list[int] = []
    empty = np.zeros(0, np.float32)

    def make(number: int) -> Batch:
        with lock:
            made.append(number)
        return Batch(empty, np.array([number]), empty)

    for workers in (1, 3):
        made.clear()
        batches = ahead_of_time(make, range(100), workers)
        for number in range(4):
            assert next(batches).labels[0] == number
            time.sleep(0.02)
            assert len(made) <= number + 1 + AHEAD * workers
        batches.close()
        count = len(made)
        time.sleep(0.02)
        assert len(made) == count
    assert not [t for t in threading.enumerate() if t.name.startswith("lushan-batches")]


def test_a_picture_that_vanished_is_named(batches: TrainingBatches) -> None:
    gone = batches.samples[3].path
    gone.unlink()
    with pytest.raises(PictureError, match="there is no such file"):
        list(replace(batches, batch=27).epoch(0))
