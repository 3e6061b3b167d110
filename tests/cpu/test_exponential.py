"""exp of vectors against float64, over all of its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lushan.cpu.elementwise import elementwise_task, emit_elementwise
from lushan.cpu.exponential import exponential
from lushan.cpu.task import Plane
from support.native_tasks import each_target, run_tasks


@dataclass(frozen=True)
class ExponentialKernel:
    def emit(self, name, target):
        return emit_elementwise(name, target, 1, exponential)


def exponentials(numbers, target):
    x, y = Plane("x", (1, 1, 1, len(numbers))), Plane("y", (1, 1, 1, len(numbers)))
    tasks = [elementwise_task(ExponentialKernel(), (x,), y)]
    (actual,) = run_tasks(tasks, {x: numbers.astype(np.float32)}, [y], target)
    return actual[0, 0, 0]


@each_target
@pytest.mark.parametrize(("low", "high"), [(-87.3, 88.72), (-1, 1), (-1e-6, 1e-6)])
def test_relative_error(target, low, high):
    x = np.linspace(low, high, 100_001).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    assert (np.abs(exponentials(x, target) - expected) / expected).max() <= 1e-7


@each_target
def test_subnormal_results_are_near(target):
    x = np.linspace(-103.9, -87.3, 10_001).astype(np.float32)
    difference = np.abs(exponentials(x, target) - np.exp(x.astype(np.float64)))
    assert difference.max() <= 1.5 * 2.0**-149 + 1e-7 * 2.0**-126


@each_target
def test_limits(target):
    x = np.array([0, -0.0, -np.inf, -1e30, -104, np.inf, 1e30, 88.8, np.nan], np.float32)
    expected = [1, 1, 0, 0, 0, np.inf, np.inf, np.inf, np.nan]
    np.testing.assert_array_equal(exponentials(x, target), np.array(expected, np.float32))
