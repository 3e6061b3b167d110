"""Batches made ready in worker threads while the step before them runs.

Each worker makes whole batches; no more than ``AHEAD`` for each worker are finished or under way,
so a run holds a bounded number of them. Which thread made a batch cannot be told from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from lushan.image.preprocess import Preprocessing
from lushan.train.augmentation import Augmentation, at_size, mix
from lushan.train.dataset import Sample, labels_of
from lushan.train.picture_check import PictureStore
from lushan.train.sampling import Purpose, epoch_order, generator, target_rows

AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """N pictures, preprocessed, with what they are."""

    pictures: npt.NDArray[np.float32]  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]
    targets: npt.NDArray[np.float32]  # [N, K], what a step takes


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of every epoch: who comes when, how varied, with which targets.

    Of an epoch's pictures, those that make no full batch are left out; they are others each time.
    """

    samples: Sequence[Sample]
    classes: int
    store: PictureStore
    preprocessing: Preprocessing
    augmentation: Augmentation
    batch: int
    seed: int
    balanced: bool = False
    label_smoothing: float = 0.0
    class_weights: npt.NDArray[np.float32] | None = None

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return len(self.samples) // self.batch

    def epoch(
        self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None, workers: int = 1
    ) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch in order, from number ``start`` on.

        ``size`` is (height, width) in place of that of ``preprocessing``.
        """
        height, width = size or (self.preprocessing.height, self.preprocessing.width)
        preprocessing = replace(self.preprocessing, height=height, width=width)
        labels = labels_of(self.samples)
        order = epoch_order(labels, seed=self.seed, epoch=epoch, balanced=self.balanced)

        def make(number: int) -> Batch:
            return self.make(order, epoch, number, preprocessing)

        return ahead_of_time(make, range(start, self.steps), workers)

    def make(
        self,
        order: npt.NDArray[np.int64],
        epoch: int,
        number: int,
        preprocessing: Preprocessing,
    ) -> Batch:
        """Return one batch of an epoch whose pictures come in ``order``, at some picture size."""
        places = range(number * self.batch, (number + 1) * self.batch)
        height, width = preprocessing.height, preprocessing.width
        pixels = np.empty((len(places), height, width, 3), np.uint8)
        chosen = [self.samples[order[place]] for place in places]
        for row, place, sample in zip(pixels, places, chosen, strict=True):
            random = generator(self.seed, Purpose.augmentation, epoch, place)
            row[:] = self.augmentation(self.store(sample.path), preprocessing, random)
        labels = labels_of(chosen)
        targets = target_rows(
            labels,
            self.classes,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
        )
        pictures = preprocessing.normalize(pixels)
        if self.augmentation.mixup:
            random = generator(self.seed, Purpose.mixup, epoch, number)
            pictures, targets = mix(pictures, targets, self.augmentation.mixup, random)
        return Batch(pictures, labels, targets)


def validation_batches(
    samples: Sequence[Sample],
    classes: int,
    store: PictureStore,
    preprocessing: Preprocessing,
    *,
    batch: int,
    workers: int = 1,
) -> Generator[Batch, None, None]:
    """Yield all samples in order as recognition would see them; the last batch may be smaller."""
    shape = (preprocessing.height, preprocessing.width, 3)

    def make(start: int) -> Batch:
        chosen = samples[start : start + batch]
        pixels = np.empty((len(chosen), *shape), np.uint8)
        for row, sample in zip(pixels, chosen, strict=True):
            row[:] = at_size(store(sample.path), preprocessing)
        labels = labels_of(chosen)
        return Batch(preprocessing.normalize(pixels), labels, target_rows(labels, classes))

    return ahead_of_time(make, range(0, len(samples), batch), workers)


def ahead_of_time(
    make: Callable[[int], Batch], numbers: Sequence[int], workers: int
) -> Generator[Batch, None, None]:
    """Yield ``make(number)`` for each number, in order, made by worker threads ahead of time.

    An error of ``make`` is raised in its place. Closing the iterator waits for the batches that are
    under way.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lushan-batches")
    pending: deque[Future[Batch]] = deque()
    left = iter(numbers)
    try:
        for _ in range(AHEAD * workers):
            pending.extend(pool.submit(make, number) for number in islice(left, 1))
        while pending:
            batch = pending.popleft().result()
            pending.extend(pool.submit(make, number) for number in islice(left, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
