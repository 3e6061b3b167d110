"""Occlusion: which part of the picture, when it is covered, costs the class its score.

A square of the mean colour (0 after normalising) slides over what the network sees, and each
covered picture is recognised for itself (Zeiler & Fergus 2013, 4.2). No gradient is involved, and
nothing is assumed about the network; it costs one recognition for each position.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.explain.inspection import FloatArray, Inspection
from lushan.reference.softmax import softmax

Box: TypeAlias = tuple[int, int, int, int]  # top, left, bottom, right

_PIXELS = 16 * 224 * 224  # of the covered pictures that are run together


@dataclass(frozen=True)
class Occlusion:
    """The score of a class with the picture covered at each position.

    ``rows`` and ``columns`` are where the squares begin, ``size`` their sides (height, width);
    ``scores`` and ``probabilities`` are float32 [rows, columns]; ``score`` and ``probability`` are
    those of the uncovered picture, whose height and width are ``picture``.
    """

    class_index: int
    picture: tuple[int, int]
    size: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    scores: FloatArray
    probabilities: FloatArray
    score: float
    probability: float

    def box(self, row: int, column: int) -> Box:
        """Return the square of one position: (top, left, bottom, right), the last two excluded."""
        top, left = self.rows[row], self.columns[column]
        return top, left, top + self.size[0], left + self.size[1]

    def heat(self) -> npt.NDArray[np.float64]:
        """Return how much the score falls when a pixel is covered, float64 [H, W].

        The mean over all positions that cover it; below 0 where covering helps.
        """
        total = np.zeros(self.picture)
        count = np.zeros(self.picture)
        for row in range(len(self.rows)):
            for column in range(len(self.columns)):
                top, left, bottom, right = self.box(row, column)
                total[top:bottom, left:right] += self.score - float(self.scores[row, column])
                count[top:bottom, left:right] += 1
        heat: npt.NDArray[np.float64] = total / count
        return heat


def occlusion(
    inspection: Inspection, class_index: int, *, size: int | None = None, stride: int | None = None
) -> Occlusion:
    """Return what covering costs the class ``class_index``.

    ``size`` is the side of the square in pixels, None a seventh of the shorter side; ``stride``
    how far it moves, None half of its size. The last square of a row or column ends with the
    picture. Raises UsageError for no such class, a ``size`` that does not fit and a ``stride``
    below 1 or above ``size``.
    """
    inspection.check_class(class_index)
    height, width = inspection.size
    shorter = min(height, width)
    size = max(1, shorter // 7) if size is None else size
    stride = max(1, size // 2) if stride is None else stride
    if not 1 <= size <= shorter:
        raise UsageError(
            "the covering square should be 1 to {most} pixels wide; received {value!r}",
            most=shorter,
            value=size,
        )
    if not 1 <= stride <= size:
        raise UsageError(
            "the stride should be 1 to {most}, the size of the square; received {value!r}",
            most=size,
            value=stride,
        )
    rows, columns = _starts(height, size, stride), _starts(width, size, stride)
    boxes = [(top, left, top + size, left + size) for top in rows for left in columns]
    together = max(1, _PIXELS // (height * width))
    parts = [inspection.recognizer.scores(part) for part in _covered(inspection, boxes, together)]
    everything = np.concatenate(parts)
    grid = (len(rows), len(columns))
    return Occlusion(
        class_index=class_index,
        picture=(height, width),
        size=(size, size),
        rows=rows,
        columns=columns,
        scores=everything[:, class_index].reshape(grid),
        probabilities=softmax(everything)[:, class_index].reshape(grid),
        score=float(inspection.scores[class_index]),
        probability=float(softmax(inspection.scores)[class_index]),
    )


def _starts(side: int, size: int, stride: int) -> tuple[int, ...]:
    """Return where squares begin along a side; every pixel is covered, the last one ends there."""
    return tuple(sorted({*range(0, side - size, stride), side - size}))


def _covered(inspection: Inspection, boxes: list[Box], together: int) -> Iterator[FloatArray]:
    """Yield the covered pictures, so many at a time: float32 [N, H, W, 3]."""
    for start in range(0, len(boxes), together):
        part = boxes[start : start + together]
        batch = np.repeat(inspection.input, len(part), axis=0)
        for picture, (top, left, bottom, right) in zip(batch, part, strict=True):
            picture[top:bottom, left:right] = 0
        yield batch
