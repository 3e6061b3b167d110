"""Which picture comes when, and how much it counts; all by seeds, nothing by chance.

Every random number of a run comes from a generator of its own, made from the run's seed, what it is
for, the epoch and a place. So the numbers do not depend on which thread asks first, nor on where a
run was interrupted.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What random numbers are for: each purpose has a stream of its own."""

    split = 0
    order = 1
    augmentation = 2
    mixup = 3


def generator(seed: int, purpose: Purpose, epoch: int, place: int) -> np.random.Generator:
    """Return the source of random numbers for one place (a picture, a batch) of one epoch."""
    return np.random.default_rng((seed, purpose, epoch, place))


def epoch_order(
    labels: npt.NDArray[np.int64], *, seed: int, epoch: int, balanced: bool = False
) -> npt.NDArray[np.int64]:
    """Return which picture stands at each place of an epoch: int64 [N], for N labels.

    Every picture once, shuffled; or, ``balanced``, every class equally often (to one picture): a
    small class's pictures come several times, of a large class a part, another one in each epoch.
    """
    random = generator(seed, Purpose.order, epoch, 0)
    if not balanced:
        return random.permutation(len(labels))
    classes = np.unique(labels)
    quotas = np.full(len(classes), len(labels) // len(classes))
    quotas[random.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        whole, rest = divmod(int(quota), len(members))
        chosen += [members] * whole + [random.permutation(members)[:rest]]
    return random.permutation(np.concatenate(chosen)).astype(np.int64)


def inverse_class_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """Return a weight per class, float32 [K], that makes every class count as much in the loss.

    Inverse to the number of its pictures, with a mean of 1 over all pictures, so that the learning
    rate means what it meant without weights. A class without pictures has the weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    weights = len(labels) / (present * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def target_rows(
    labels: npt.NDArray[np.int64],
    classes: int,
    *,
    label_smoothing: float = 0.0,
    class_weights: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return what a step takes as targets: float32 [N, K], a distribution for each label.

    ``label_smoothing`` s leaves 1 − s at the label and spreads s over all classes (Szegedy et al.
    2016). ``class_weights`` multiply: picture n then counts with the weight of its label.
    """
    rows = np.full((len(labels), classes), label_smoothing / classes, np.float32)
    rows[np.arange(len(labels)), labels] += np.float32(1 - label_smoothing)
    if class_weights is not None:
        rows *= class_weights[labels][:, None]
    return rows
