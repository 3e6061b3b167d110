"""The residual sum and the zero-padding shortcut, exactly as the reference has them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.residual import add_tasks, zero_padding_shortcut_tasks
from lushan.cpu.task import Plane
from lushan.reference import residual as reference
from lushan.reference.activation import leaky_relu, relu
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, planes, seeds

ACTIVATIONS = {"none": lambda x: x, "relu": relu, "leaky_relu": lambda x: leaky_relu(x, 0.25)}


@each_target
@given(
    a=planes("a"),
    halo=st.tuples(halos, halos),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    result=st.sampled_from(["new", "first", "second"]),
    seed=seeds,
)
def test_add_is_exact(target, a, halo, activation, result, seed):
    b = Plane("b", a.shape, halo[0])
    y = {"new": Plane("y", a.shape, halo[1]), "first": a, "second": b}[result]
    first, second = normal(seed, a.shape), normal(seed + 1, a.shape)
    tasks = add_tasks(a, b, y, target, activation=activation, slope=0.25)
    (actual,) = run_tasks(tasks, {a: first, b: second}, [y], target)
    expected = ACTIVATIONS[activation](reference.add(first, second))
    np.testing.assert_array_equal(actual, expected)


@each_target
def test_a_plane_may_be_added_to_itself(target):
    x, y = Plane("x", (1, 2, 3, 21)), Plane("y", (1, 2, 3, 21))
    data = normal(1, x.shape)
    data[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    (actual,) = run_tasks(add_tasks(x, x, y, target), {x: data}, [y], target)
    np.testing.assert_array_equal(actual, 2 * data)


@each_target
@given(x=planes("x"), halo=halos, stride=st.integers(1, 3), added=st.integers(0, 70), seed=seeds)
def test_zero_padding_shortcut_is_exact(target, x, halo, stride, added, seed):
    data = normal(seed, x.shape)
    expected = reference.zero_padding_shortcut(data, stride=stride, channels=x.shape[3] + added)
    y = Plane("y", expected.shape, halo)
    tasks = zero_padding_shortcut_tasks(x, y, target, stride=stride)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    np.testing.assert_array_equal(actual, expected)
