"""Activation kernels against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu.activation import activation_tasks, prelu_tasks
from lushan.cpu.task import Plane
from lushan.reference import activation as reference
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, planes, seeds

EXTREMES = np.array(
    [np.nan, np.inf, -np.inf, 0, 1e-30, -1e-30, 3e38, -3e38, 88, -88, 104, -104, 1e-8, -1e-8],
    np.float32,
)


def activated(name, x, data, target, *, halo=(0, 0, 0, 0), in_place=False, slope=0.0):
    y = x if in_place else Plane("y", x.shape, halo)
    (actual,) = run_tasks(activation_tasks(name, x, y, target, slope=slope), {x: data}, [y], target)
    return actual


@each_target
@given(x=planes("x"), halo=halos, in_place=st.booleans(), seed=seeds)
def test_relu_is_exact(target, x, halo, in_place, seed):
    data = normal(seed, x.shape)
    actual = activated("relu", x, data, target, halo=halo, in_place=in_place)
    np.testing.assert_array_equal(actual, reference.relu(data))


@each_target
@given(x=planes("x"), in_place=st.booleans(), seed=seeds, slope=st.sampled_from([0.01, -0.5, 2.0]))
def test_leaky_relu_is_exact(target, x, in_place, seed, slope):
    data = normal(seed, x.shape)
    actual = activated("leaky_relu", x, data, target, in_place=in_place, slope=slope)
    np.testing.assert_array_equal(actual, reference.leaky_relu(data, slope))


@each_target
@given(x=planes("x"), halo=halos, in_place=st.booleans(), seed=seeds)
def test_prelu_is_exact(target, x, halo, in_place, seed):
    data, slope = normal(seed, x.shape), normal(seed + 1, x.shape[-1:])
    y = x if in_place else Plane("y", x.shape, halo)
    (actual,) = run_tasks(prelu_tasks(x, y, slope, target), {x: data}, [y], target)
    np.testing.assert_array_equal(actual, reference.prelu(data, slope))


@each_target
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@given(x=planes("x"), halo=halos, in_place=st.booleans(), seed=seeds)
def test_sigmoid_and_tanh_are_close(target, name, x, halo, in_place, seed):
    data = normal(seed, x.shape, scale=5)
    actual = activated(name, x, data, target, halo=halo, in_place=in_place)
    expected = getattr(reference, name)(data.astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=5e-7)


@each_target
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_sigmoid_and_tanh_over_their_range(target, name):
    data = np.linspace(-20, 20, 40_001).astype(np.float32).reshape(1, 1, -1, 1)
    actual = activated(name, Plane("x", data.shape), data, target)
    expected = getattr(reference, name)(data.astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=5e-7)
    assert np.abs(actual).max() <= 1


@each_target
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_extremes(target, name, repeats):
    data = np.tile(EXTREMES, repeats).reshape(1, 1, 1, -1)
    actual = activated(name, Plane("x", data.shape), data, target, slope=0.01)
    expected = getattr(reference, name)(data.astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=5e-7, atol=2e-45)
    assert np.isnan(actual[np.isnan(data)]).all()


@each_target
def test_tanh_keeps_the_sign_of_zero(target):
    data = np.array([0.0, -0.0], np.float32).reshape(1, 1, 1, 2)
    actual = activated("tanh", Plane("x", data.shape), data, target)
    np.testing.assert_array_equal(actual.view(np.uint32), data.view(np.uint32))
