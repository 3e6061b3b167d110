"""Pooling kernels against the reference: windows at the edges, ties, NaN and infinities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.pooling import average_pooling_tasks, max_pooling_tasks
from lushan.cpu.task import Plane
from lushan.reference import pooling as reference
from lushan.reference.geometry import window
from support.compare import relative_error
from support.native_tasks import each_target, run_tasks
from support.planes import channels, halos, normal, seeds


@st.composite
def problems(draw):
    """Return planes x and y, and a window that fits them."""
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    padding = tuple(draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 0, 1, 1))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    size = [
        draw(st.integers(max(1, kernel[a] - sum(padding[2 * a : 2 * a + 2])), 11)) for a in (0, 1)
    ]
    shape = (draw(st.integers(1, 2)), *size, draw(channels))
    slide = {"kernel": kernel, "stride": stride, "padding": padding}
    output = (shape[0], *window(**slide).output_size(*size), shape[3])
    return Plane("x", shape, draw(halos)), Plane("y", output, draw(halos)), slide


def numbers(kind, seed, shape):
    """Return random numbers, numbers with many ties, or ones with NaN and infinities."""
    x = normal(seed, shape)
    if kind == "ties":
        return np.round(x)
    if kind == "special":
        rng = np.random.default_rng(seed)
        return rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32), shape)
    return x


kinds = st.sampled_from(["normal", "ties", "special"])


@each_target
@given(problem=problems(), kind=kinds, seed=seeds)
def test_max_pooling_is_exact(target, problem, kind, seed):
    x, y, slide = problem
    data = numbers(kind, seed, x.shape)
    expected, _ = reference.max_pooling(data, **slide)
    tasks = max_pooling_tasks(x, y, None, **slide, target=target)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    np.testing.assert_array_equal(actual, expected)


@each_target
@given(problem=problems(), kind=kinds, seed=seeds)
def test_switches_are_exact(target, problem, kind, seed):
    x, y, slide = problem
    data = numbers(kind, seed, x.shape)
    switches = Plane("switches", (*y.shape[:3], 2 * y.shape[3]))
    tasks = max_pooling_tasks(x, y, switches, **slide, target=target)
    actual, winners = run_tasks(tasks, {x: data}, [y, switches], target)
    expected, expected_winners = reference.max_pooling(data, **slide)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(winners.view(np.int64), expected_winners)


@each_target
@given(problem=problems(), count_include_pad=st.booleans(), seed=seeds)
def test_average_pooling_is_close(target, problem, count_include_pad, seed):
    x, y, slide = problem
    data = normal(seed, x.shape)
    options = slide | {"count_include_pad": count_include_pad}
    expected = reference.average_pooling(data.astype(np.float64), **options)
    tasks = average_pooling_tasks(x, y, **options, target=target)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    assert relative_error(actual, expected) <= 2e-6


@each_target
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_pooling_keeps_nan_and_infinity(target, count_include_pad):
    data = np.zeros((1, 5, 5, 20), np.float32)
    data[0, 0, 0], data[0, 4, 4, :7], data[0, 2, 2, 7:] = np.inf, np.nan, -np.inf
    x, y = Plane("x", data.shape, (1, 1, 1, 1)), Plane("y", (1, 3, 3, 20))
    options = {
        "kernel": (3, 3),
        "stride": (2, 2),
        "padding": (1, 1, 1, 1),
        "count_include_pad": count_include_pad,
    }
    with np.errstate(invalid="ignore"):
        expected = reference.average_pooling(data, **options)
    tasks = average_pooling_tasks(x, y, **options, target=target)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    np.testing.assert_array_equal(actual, expected)
