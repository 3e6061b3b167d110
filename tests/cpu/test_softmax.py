"""Softmax against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.softmax import softmax_tasks
from lushan.cpu.task import Plane
from lushan.reference.softmax import softmax
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, planes, seeds


@each_target
@given(
    x=planes("x"),
    halo=halos,
    in_place=st.booleans(),
    scale=st.sampled_from([0.1, 3.0, 100.0]),
    seed=seeds,
)
def test_softmax_is_close(target, x, halo, in_place, scale, seed):
    data = normal(seed, x.shape, scale)
    y = x if in_place else Plane("y", x.shape, halo)
    (actual,) = run_tasks(softmax_tasks(x, y, target), {x: data}, [y], target)
    # Subtracting the greatest score rounds: that is seen in probabilities near 0 alone.
    np.testing.assert_allclose(actual, softmax(data.astype(np.float64)), rtol=2e-6, atol=1e-7)


@each_target
@pytest.mark.parametrize("classes", [2, 10, 16, 21, 1000])
def test_shifted_scores_have_the_same_softmax(target, classes):
    x, y = Plane("x", (3, 1, 1, classes)), Plane("y", (3, 1, 1, classes))
    data = np.round(normal(1, x.shape, scale=100))
    data[1:] += np.array([1e4, -1e6]).reshape(2, 1, 1, 1) - data[1:] + data[:1]
    (actual,) = run_tasks(softmax_tasks(x, y, target), {x: data}, [y], target)
    np.testing.assert_array_equal(actual[1:], np.broadcast_to(actual[:1], actual[1:].shape))
    np.testing.assert_allclose(actual.sum(axis=-1), 1, rtol=1e-6)


@each_target
@pytest.mark.parametrize("classes", [5, 16, 37])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("place", [0, -1])
def test_extremes(target, classes, number, place):
    data = np.ones((1, 1, 1, classes), np.float32)
    data[..., place] = number
    x, y = Plane("x", data.shape), Plane("y", data.shape)
    (actual,) = run_tasks(softmax_tasks(x, y, target), {x: data}, [y], target)
    np.testing.assert_allclose(actual, softmax(data), rtol=1e-6)


@each_target
def test_nothing_but_minus_infinity_gives_nan(target):
    data = np.full((1, 1, 1, 21), -np.inf, np.float32)
    x, y = Plane("x", data.shape), Plane("y", data.shape)
    (actual,) = run_tasks(softmax_tasks(x, y, target), {x: data}, [y], target)
    assert np.isnan(actual).all()
