"""Batch normalisation of given statistics against the reference in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.batch_norm import batch_norm_tasks, scale_and_shift
from lushan.cpu.task import Plane
from lushan.reference.activation import relu
from lushan.reference.batch_norm import batch_norm
from support.compare import relative_error
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, planes, seeds


@each_target
@given(x=planes("x"), halo=halos, in_place=st.booleans(), activated=st.booleans(), seed=seeds)
def test_batch_norm_is_close(target, x, halo, in_place, activated, seed):
    data = normal(seed, x.shape)
    weight, bias, mean, variance = normal(seed + 1, (4, x.shape[-1]))
    variance = variance**2 + 0.1
    statistics = [weight, bias, mean, variance]
    y = x if in_place else Plane("y", x.shape, halo)
    activation = "relu" if activated else "none"
    tasks = batch_norm_tasks(x, y, *statistics, target, epsilon=1e-5, activation=activation)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    whole = batch_norm(*(array.astype(np.float64) for array in (data, *statistics)), epsilon=1e-5)
    difference = np.abs(actual - (relu(whole) if activated else whole)).max()
    assert difference <= 2e-6 * np.abs(whole).max()


def test_the_shift_belongs_to_the_rounded_scale():
    weight, bias = np.array([1.1], np.float32), np.array([0.25], np.float32)
    mean, variance = np.array([1e4], np.float32), np.array([3.0], np.float32)
    scale, shift = scale_and_shift(weight, bias, mean, variance, 0.0)
    assert relative_error(scale.astype(np.float64) * 1e4 + shift, np.array([0.25])) <= 2e-3
    assert shift[0] == np.float32(0.25 - 1e4 * float(scale[0]))
