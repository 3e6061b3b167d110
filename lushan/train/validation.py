"""Measuring a network on labelled pictures: accuracy, confusion, and what it finds hardest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lushan.graph.executor import Program
from lushan.models.resnet_graph import INPUT
from lushan.reference.softmax import log_softmax, top_k
from lushan.train.dataset import Sample
from lushan.train.loader import Batch

HARDEST = 32  # pictures that are kept


@dataclass(frozen=True)
class HardPicture:
    """A picture with a high loss: what it is, what the network said, and how sure it was."""

    path: Path
    label: int
    answer: int
    probability: float  # of the answer
    loss: float  # −log of the probability of the label


@dataclass(frozen=True)
class Validation:
    """Counts of pictures, and the mean loss, without label smoothing and class weights.

    ``confusion`` is int64 [K, K]: entry (i, j) counts pictures of class i that were called j.
    ``hardest`` has the pictures of the highest losses, highest first. With fewer than five classes,
    top-5 counts among all of them.
    """

    images: int
    top1: int
    top5: int
    loss: float
    confusion: npt.NDArray[np.int64]
    hardest: tuple[HardPicture, ...]


def validate(
    program: Program, output: str, batches: Iterable[Batch], samples: Sequence[Sample], classes: int
) -> Validation:
    """Run an inference program on ``batches`` of ``samples`` and count; ``output`` are its scores.

    Where scores are not finite numbers, the loss is NaN, and nothing of that batch is right.
    """
    confusion = np.zeros((classes, classes), np.int64)
    top5 = done = 0
    total = 0.0
    hardest: list[tuple[float, int, HardPicture]] = []
    for batch in batches:
        with np.errstate(over="ignore", invalid="ignore"):
            scores = program({INPUT: batch.pictures})[output]
            logs = log_softmax(scores.astype(np.float64))
        rows = np.arange(len(scores))
        losses = -logs[rows, batch.labels]
        total += float(losses.sum())
        if not np.isfinite(logs).all():
            total = float("nan")
            done += len(scores)
            continue
        best = top_k(scores, min(5, classes))
        np.add.at(confusion, (batch.labels, best[:, 0]), 1)
        top5 += int((best == batch.labels[:, None]).any(axis=1).sum())
        for row in np.argsort(-losses, kind="stable")[:HARDEST]:
            answer = int(best[row, 0])
            picture = HardPicture(
                samples[done + row].path,
                int(batch.labels[row]),
                answer,
                float(np.exp(logs[row, answer])),
                float(losses[row]),
            )
            heapq.heappush(hardest, (picture.loss, -(done + int(row)), picture))
            if len(hardest) > HARDEST:
                heapq.heappop(hardest)
        done += len(scores)
    ranked = tuple(entry[2] for entry in sorted(hardest, key=lambda entry: entry[:2], reverse=True))
    top1 = int(np.trace(confusion))
    return Validation(done, top1, top5, total / max(1, done), confusion, ranked)


def most_confused(confusion: npt.NDArray[np.int64], most: int = 20) -> list[tuple[int, int, int]]:
    """Return (class, what it was called, how often) of the most frequent mistakes."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    pairs = [(*divmod(int(place), len(mistakes)), int(mistakes.flat[place])) for place in order]
    return [pair for pair in pairs if pair[2]]
