"""The global average kernel against the reference."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from lushan.cpu.global_average_pooling import global_average_pooling_tasks
from lushan.cpu.task import Plane
from lushan.reference.pooling import global_average_pooling
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, planes, seeds


def averaged(x, halo, data, target):
    n, _, _, c = x.shape
    y = Plane("y", (n, 1, 1, c), halo)
    (actual,) = run_tasks(global_average_pooling_tasks(x, y, target), {x: data}, [y], target)
    return actual[:, 0, 0]


@each_target
@given(x=planes("x"), halo=halos, seed=seeds)
def test_it_is_the_rounded_float64_mean(target, x, halo, seed):
    data = normal(seed, x.shape)
    expected = global_average_pooling(data.astype(np.float64))
    np.testing.assert_allclose(averaged(x, halo, data, target), expected, rtol=1e-7, atol=1e-14)


@each_target
def test_small_numbers_after_a_large_one_count(target):
    x = Plane("x", (2, 64, 64, 35))
    data = np.ones(x.shape, np.float32)
    data[:, 0, 0] = 2e7
    actual = averaged(x, (0, 0, 0, 0), data, target)
    np.testing.assert_array_equal(actual, np.float32((2e7 + 4095) / 4096))


@each_target
def test_nan_and_infinity_stay_in_their_channel(target):
    x = Plane("x", (1, 3, 4, 21), (1, 0, 2, 1))
    data = np.ones(x.shape, np.float32)
    data[0, 1, 2, 3], data[0, 2, 3, 20], data[0, 0, 0, 5] = np.nan, np.inf, -np.inf
    actual = averaged(x, (0, 0, 0, 0), data, target)[0]
    expected = np.ones(21, np.float32)
    expected[3], expected[20], expected[5] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(actual, expected)
