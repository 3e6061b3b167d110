"""Gradient descent: the update, norms, and clipping."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.errors import UsageError
from lushan.reference.sgd import clipping_factor, gradient_norm, sgd, total_norm


def numbers(*values: float) -> list[np.ndarray]:
    return [np.array(value, np.float64) for value in values]


def test_the_update_by_hand() -> None:
    parameter, velocity, gradient = (np.array([v], np.float64) for v in (2.0, 0.5, 3.0))
    rate, momentum, decay, factor = numbers(0.1, 0.9, 0.01, 0.5)
    # g = 0.5·3 + 0.01·2 = 1.52; velocity = 0.9·0.5 + 1.52 = 1.97
    new, moved = sgd(parameter, velocity, gradient, rate, momentum, decay, factor, nesterov=False)
    assert moved == pytest.approx(1.97)
    assert new == pytest.approx(2 - 0.1 * 1.97)
    ahead, moved = sgd(parameter, velocity, gradient, rate, momentum, decay, factor)
    assert moved == pytest.approx(1.97)
    assert ahead == pytest.approx(2 - 0.1 * (1.52 + 0.9 * 1.97))
    assert parameter == 2.0 and velocity == 0.5


def test_without_momentum_and_decay_it_follows_the_gradient() -> None:
    parameter = np.arange(3, dtype=np.float32)
    gradient = np.array([1, -2, 0], np.float32)
    rates = [np.array(value, np.float32) for value in (0.5, 0, 0)]
    new, _ = sgd(parameter, np.zeros_like(parameter), gradient, *rates)
    assert new.tolist() == [-0.5, 2, 2]
    assert new.dtype == np.float32


def test_norms() -> None:
    assert gradient_norm(np.array([[3, 0], [0, 4]], np.float32)) == 5
    assert total_norm(*numbers(3, 4, 12)) == 13
    # Squares that float32 does not have.
    assert gradient_norm(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)
    assert total_norm(*(np.array(1e30, np.float32) for _ in range(4))) == pytest.approx(2e30)
    # A plain float32 sum of so many squares would stand still at 2**24.
    assert gradient_norm(np.ones(2**25, np.float32)) == pytest.approx(2**12.5, rel=1e-6)


def test_clipping() -> None:
    factors = [float(clipping_factor(norm, most=2.0)) for norm in numbers(0, 1, 2, 8, np.inf)]
    assert factors == [1, 1, 1, 0.25, 0]
    assert np.isnan(clipping_factor(np.array(np.nan), most=2.0))
    with pytest.raises(UsageError, match=r"norm above 0, got 0\.0"):
        clipping_factor(np.array(1.0), most=0.0)


def test_shapes_must_be_one() -> None:
    with pytest.raises(UsageError, match="gradient has the shape"):
        sgd(np.zeros(2), np.zeros(2), np.zeros(3), *numbers(0, 0, 0))
