"""Copies and halos."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.layout import copy_tasks, fill_halo_tasks
from lushan.cpu.task import Plane
from support.native_tasks import Memory, Runner, each_target, run_tasks
from support.planes import halos, normal, planes, seeds


@each_target
@given(x=planes("x"), halo=halos, seed=seeds)
def test_copy_moves_the_real_pixels_only(target, x, halo, seed):
    y = Plane("y", x.shape, halo)
    numbers = normal(seed, x.shape)
    (copied,) = run_tasks(copy_tasks(x, y, target), {x: numbers}, [y], target)
    np.testing.assert_array_equal(copied, numbers)


@each_target
@given(x=planes("x"), seed=seeds)
def test_a_copy_of_a_copy(target, x, seed):
    y, z = Plane("y", x.shape, (1, 2, 3, 4)), Plane("z", x.shape)
    numbers = normal(seed, x.shape)
    tasks = copy_tasks(x, y, target) + copy_tasks(y, z, target)
    (copied,) = run_tasks(tasks, {x: numbers}, [z], target, between=[y])
    np.testing.assert_array_equal(copied, numbers)


@each_target
@given(x=planes("x"), value=st.sampled_from([0.0, -np.inf, 1.5]), seed=seeds)
def test_the_whole_halo_is_filled_and_nothing_else(target, x, value, seed):
    numbers = normal(seed, x.shape)
    top, bottom, left, right = x.halo
    n, h, w, c = x.shape
    whole = Plane("x", (n, top + h + bottom, left + w + right, c))
    memory = Memory([x])
    memory.put(x, numbers)
    Runner(fill_halo_tasks(x, target, value=value), memory, target).run()
    padded = np.pad(numbers, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)
    np.testing.assert_array_equal(memory.pixels(whole), padded)
    untouched = Memory([whole])
    for each in (memory, untouched):
        each.pixels(whole)[...] = 0
    np.testing.assert_array_equal(memory.bits, untouched.bits)


@each_target
def test_a_plane_without_halo_needs_no_task(target):
    assert fill_halo_tasks(Plane("x", (1, 2, 3, 4)), target) == []
