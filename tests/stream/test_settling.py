"""Averages over time, and when an answer has changed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lushan.errors import UsageError
from lushan.stream.settling import Settling, Smoother


def test_no_smoothing_changes_no_bit() -> None:
    scores = np.float32([0.1, -3e-8, 7])
    assert Smoother(0.0)(scores, 1.0) is scores


def test_what_went_before_fades_with_time_not_with_frames() -> None:
    zero, one = np.float32([0.0]), np.float32([1.0])
    once, often = Smoother(2.0), Smoother(2.0)
    once(zero, 0.0)
    often(zero, 0.0)
    for seconds in np.linspace(0.1, 3, 30):
        late = often(one, float(seconds))
    assert once(one, 3.0)[0] == pytest.approx(1 - math.exp(-3 / 2), rel=1e-6)
    assert late[0] == pytest.approx(1 - math.exp(-3 / 2), rel=1e-6)
    assert late.dtype == np.float32


def test_a_glimpse_does_not_settle() -> None:
    settled = Settling(0.5)
    seen = [
        (3, 0.0),
        (3, 0.4),
        (3, 0.5),
        (3, 0.9),
        (7, 1.0),
        (3, 1.2),
        (7, 1.3),
        (7, 1.8),
        (7, 2.0),
    ]
    assert [settled(best, seconds) for best, seconds in seen] == [
        *(False, False, True, False),  # 3 from the beginning on, told once
        *(False, False, False, True, False),  # 7 for a moment, then to stay
    ]


def test_without_patience_every_change_is_told() -> None:
    settled = Settling(0.0)
    assert [settled(best, 0.0) for best in (1, 1, 2, 1)] == [True, False, True, True]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_lengths_of_time(value: float) -> None:
    with pytest.raises(UsageError, match=f"smooth should be 0 seconds or more; received {value}"):
        Smoother(value)
    with pytest.raises(UsageError, match="settle should be"):
        Settling(value)
