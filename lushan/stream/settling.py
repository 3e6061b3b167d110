"""Answers over time: scores averaged, and the moment when another answer has settled."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError


def check_seconds(name: str, value: float) -> float:
    """Return ``value``; raise UsageError where it is no length of time."""
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(
            "{name} should be 0 seconds or more; received {value}", name=name, value=value
        )
    return value


class Smoother:
    """Averages scores over time, so that one blurred frame does not change the answer.

    A moving average: after ``seconds`` what went before counts 1/e, however many frames came in
    between. 0 changes nothing, not by a bit.
    """

    def __init__(self, seconds: float) -> None:
        self._constant = check_seconds("smooth", seconds)
        self._average: npt.NDArray[np.float64] | None = None
        self._last = 0.0

    def __call__(self, scores: npt.NDArray[np.float32], seconds: float) -> npt.NDArray[np.float32]:
        """Take the scores [classes] of a frame at ``seconds``; return the average there."""
        if not self._constant:
            return scores
        if self._average is None:
            self._average = scores.astype(np.float64)
        else:
            kept = math.exp(-max(0.0, seconds - self._last) / self._constant)
            self._average = kept * self._average + (1 - kept) * scores
        self._last = seconds
        return self._average.astype(np.float32)


class Settling:
    """Tells when the best class has been another one, without a break, for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._needed = check_seconds("settle", seconds)
        self._told: int | None = None
        self._candidate: int | None = None
        self._since = 0.0

    def __call__(self, best: int, seconds: float) -> bool:
        """Take the best class of a frame; return whether it has just settled."""
        if best != self._candidate:
            self._candidate, self._since = best, seconds
        settled = best != self._told and seconds - self._since >= self._needed
        if settled:
            self._told = best
        return settled
