"""Pooling against ONNX Runtime and differences; switches, ties, padding and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.pooling import (
    average_pooling,
    average_pooling_backward,
    global_average_pooling,
    global_average_pooling_backward,
    max_pooling,
    max_pooling_backward,
)


@st.composite
def windows(draw):
    """Return kernel, stride and padding below the kernel, as pooling takes them."""
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    padding = [draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 0, 1, 1)]
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    return {"kernel": kernel, "stride": stride, "padding": tuple(padding)}


shapes = st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9), st.integers(1, 4))


def nchw(array):
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def nhwc(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def onnx_options(slide):
    top, bottom, left, right = slide["padding"]
    return {
        "kernel_shape": slide["kernel"],
        "strides": slide["stride"],
        "pads": [top, left, bottom, right],
    }


@given(seed=st.integers(0, 2**32 - 1), shape=shapes, slide=windows())
def test_max_pooling_equals_onnx(onnx_run, seed, shape, slide):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 3, shape).astype(np.float32)  # few values: many ties
    y, switches = max_pooling(x, **slide)
    theirs, positions = onnx_run("MaxPool", nchw(x), outputs=2, **onnx_options(slide))
    np.testing.assert_array_equal(y, nhwc(theirs))
    # ONNX counts through the whole batch in NCHW; ours counts within a plane.
    np.testing.assert_array_equal(switches, nhwc(positions) % (shape[1] * shape[2]))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=shapes,
    slide=windows(),
    count_include_pad=st.booleans(),
)
def test_average_pooling_equals_onnx(
    onnx_run, assert_close, *, seed, shape, slide, count_include_pad
):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    (theirs,) = onnx_run(
        "AveragePool", nchw(x), count_include_pad=int(count_include_pad), **onnx_options(slide)
    )
    ours = average_pooling(x, **slide, count_include_pad=count_include_pad)
    assert_close(ours, nhwc(theirs), 1e-6)


@given(seed=st.integers(0, 2**32 - 1), shape=shapes)
def test_global_average_pooling_equals_onnx(onnx_run, assert_close, seed, shape):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    (theirs,) = onnx_run("GlobalAveragePool", nchw(x))
    assert_close(global_average_pooling(x), theirs[:, :, 0, 0], 1e-5)


CASES = [
    {"kernel": 2},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": (3, 2), "stride": (1, 2), "padding": (2, 0, 1, 1)},
]


@pytest.mark.parametrize("slide", CASES)
def test_max_pooling_backward_equals_numerical_gradient(slide, numerical_gradient):
    rng = np.random.default_rng(1)
    x = rng.permutation(2.0 * np.arange(2 * 6 * 5 * 3)).reshape(2, 6, 5, 3)  # far from ties
    y, switches = max_pooling(x, **slide)
    grad_y = rng.standard_normal(y.shape)
    expected = numerical_gradient(lambda: max_pooling(x, **slide)[0], x, grad_y, step=1e-3)
    np.testing.assert_allclose(
        max_pooling_backward(grad_y, switches, x.shape), expected, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("slide", CASES)
def test_average_pooling_backward_equals_numerical_gradient(
    slide, count_include_pad, numerical_gradient
):
    options = slide | {"count_include_pad": count_include_pad}
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 6, 5, 3))
    grad_y = rng.standard_normal(average_pooling(x, **options).shape)
    expected = numerical_gradient(lambda: average_pooling(x, **options), x, grad_y)
    gradient = average_pooling_backward(grad_y, x.shape, **options)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_global_average_pooling_backward_equals_numerical_gradient(numerical_gradient):
    rng = np.random.default_rng(3)
    x, grad_y = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 5))
    expected = numerical_gradient(lambda: global_average_pooling(x), x, grad_y)
    gradient = global_average_pooling_backward(grad_y, x.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_2x2_with_stride_2_halves_height_and_width():
    x = np.arange(2 * 6 * 8 * 3, dtype=np.float32).reshape(2, 6, 8, 3)
    y, switches = max_pooling(x, 2)
    assert y.shape == switches.shape == average_pooling(x, 2).shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(y, x[:, 1::2, 1::2])  # the largest is at the bottom right
    np.testing.assert_array_equal(switches[1, 1, 2], 3 * 8 + 5)
    np.testing.assert_allclose(average_pooling(x, 2), (y + x[:, ::2, ::2]) / 2)


def test_of_equal_pixels_the_first_wins():
    x = np.zeros((1, 4, 4, 1), np.float32)
    _, switches = max_pooling(x, 2)
    np.testing.assert_array_equal(switches[0, :, :, 0], [[0, 2], [8, 10]])


@pytest.mark.parametrize("value", [-5, -np.inf])
def test_padding_never_wins(value):
    x = np.full((1, 3, 3, 1), value, np.float32)
    y, switches = max_pooling(x, 3, stride=2, padding=1)
    assert (y == value).all()
    np.testing.assert_array_equal(switches[0, :, :, 0], [[0, 1], [3, 4]])


def test_nan_wins_and_the_first_nan_is_the_switch():
    x = np.array([[1, np.nan, 9], [np.nan, 5, 2], [np.inf, 0, 0]]).reshape(1, 3, 3, 1)
    y, switches = max_pooling(x, 2, stride=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[np.nan, np.nan], [np.nan, 5]])
    np.testing.assert_array_equal(switches[0, :, :, 0], [[1, 1], [3, 4]])


def test_switches_find_the_values():
    x = np.random.default_rng(4).standard_normal((2, 7, 6, 3))
    y, switches = max_pooling(x, 3, stride=2, padding=1)
    plane = x.reshape(2, 42, 3)
    found = np.take_along_axis(plane, switches.reshape(2, -1, 3), axis=1)
    np.testing.assert_array_equal(found.reshape(y.shape), y)


def test_backward_sums_where_windows_overlap():
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1] = 1  # wins all four windows
    y, switches = max_pooling(x, 2, stride=1)
    grad_x = max_pooling_backward(np.array([1.0, 2, 3, 4]).reshape(y.shape), switches, x.shape)
    np.testing.assert_array_equal(grad_x, 10 * x)


def test_pooling_acts_on_each_channel_for_itself():
    x = np.random.default_rng(5).standard_normal((1, 6, 6, 4)).astype(np.float32)
    for channel in range(4):
        alone = x[..., channel : channel + 1]
        for pool in (lambda a: max_pooling(a, 3)[0], lambda a: average_pooling(a, 3)):
            np.testing.assert_array_equal(pool(x)[..., channel : channel + 1], pool(alone))


def test_a_small_shift_changes_max_pooling_less_than_its_input():
    x = np.kron(np.random.default_rng(6).random((1, 8, 8, 1)), np.ones((1, 4, 4, 1)))
    shifted = np.roll(x, 1, axis=2)
    pooled, pooled_shifted = max_pooling(x, 4)[0], max_pooling(shifted, 4)[0]
    kept = np.mean(x == shifted), np.mean(pooled == pooled_shifted)
    assert kept[0] == 0.75
    assert 0.25 < kept[1] < 0.75  # small: the larger neighbour still moves into the window


def test_the_mean_of_a_large_plane_keeps_small_addends():
    x = np.ones((1, 100, 100, 2), np.float32)
    x[0, 0, 0] = 20_000_000
    expected = np.float32((20_000_000 + 9_999) / 10_000)
    y = global_average_pooling(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


def test_messages():
    x = np.zeros((1, 5, 5, 2), np.float32)
    with pytest.raises(UsageError, match=r"padding \(2, 2, 2, 2\).* kernel \(2, 2\)"):
        max_pooling(x, 2, padding=2)
    with pytest.raises(UsageError, match="7×7 pixels does not fit an input of 5×5"):
        average_pooling(x, 7)
    with pytest.raises(UsageError, match=r"x has the shape \(5, 5, 2\); .*\[N, H, W, C\]"):
        max_pooling(x[0], 2)
    with pytest.raises(UsageError, match=r"grad_y has the shape \(1, 5, 5, 2\).*\(1, 2, 2, 2\)"):
        average_pooling_backward(x, x.shape, 2)
    y, switches = max_pooling(x, 2)
    with pytest.raises(UsageError, match=r"from 0 to 12.*\(1, 3, 3, 2\)"):
        max_pooling_backward(y, switches, (1, 3, 3, 2))
