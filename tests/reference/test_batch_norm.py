"""Batch norm: inference and training against ONNX Runtime, backward against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_training,
    batch_norm_training_backward,
    update_running_statistics,
)
from lushan.reference.convolution import convolution

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))


def example(seed, *shape, dtype=np.float64):
    """Return x and weight, bias, mean, variance for its channels."""
    rng = np.random.default_rng(seed)
    C = shape[-1]
    x, weight, bias, mean = (rng.standard_normal(s) for s in (shape, C, C, C))
    return [array.astype(dtype) for array in (x, weight, bias, mean, rng.uniform(0.1, 3, C))]


@given(seed=st.integers(0, 2**32 - 1), shape=shapes, epsilon=st.sampled_from([1e-5, 1e-3, 0.1]))
def test_inference_equals_onnx(onnx_run, assert_close, seed, shape, epsilon):
    x, *parameters = example(seed, *shape, dtype=np.float32)
    (theirs,) = onnx_run(
        "BatchNormalization", np.moveaxis(x, -1, 1).copy(), *parameters, epsilon=epsilon
    )
    ours = batch_norm(x, *parameters, epsilon=epsilon)
    assert_close(ours, np.moveaxis(theirs, 1, -1), 1e-5)


@given(seed=st.integers(0, 2**32 - 1), shape=shapes)
def test_training_equals_onnx(onnx_run, assert_close, seed, shape):
    shape = (shape[0] + 1, *shape[1:])
    x, weight, bias, mean, variance = example(seed, *shape, dtype=np.float32)
    # ONNX blends with the momentum of the old value, and with the biased variance.
    theirs, their_mean, their_variance = onnx_run(
        "BatchNormalization",
        np.moveaxis(x, -1, 1).copy(),
        weight,
        bias,
        mean,
        variance,
        outputs=3,
        training_mode=1,
        momentum=0.9,
        epsilon=1e-2,
    )
    ours, batch_mean, batch_variance = batch_norm_training(x, weight, bias, epsilon=1e-2)
    assert_close(ours, np.moveaxis(theirs, 1, -1), 2e-5)
    assert_close(0.9 * mean + 0.1 * batch_mean, their_mean, 1e-5)
    assert_close(0.9 * variance + 0.1 * batch_variance, their_variance, 1e-5)


@pytest.mark.parametrize("shape", [(3, 2, 3, 4), (6, 2)])
def test_backward_equals_numerical_gradient(shape, numerical_gradient):
    x, weight, bias, mean, variance = example(1, *shape)
    grad_y = np.random.default_rng(2).standard_normal(shape)
    gradients = batch_norm_backward(grad_y, x, weight, mean, variance)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        expected = numerical_gradient(
            lambda: batch_norm(x, weight, bias, mean, variance), array, grad_y
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(3, 2, 3, 4), (6, 2)])
def test_training_backward_equals_numerical_gradient(shape, numerical_gradient):
    x, weight, bias, *_ = example(3, *shape)
    grad_y = np.random.default_rng(4).standard_normal(shape)
    _, mean, variance = batch_norm_training(x, weight, bias)
    gradients = batch_norm_training_backward(grad_y, x, weight, mean, variance)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        expected = numerical_gradient(
            lambda: batch_norm_training(x, weight, bias)[0], array, grad_y
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_gives_mean_bias_and_deviation_weight(dtype):
    x, weight, bias, *_ = example(5, 4, 8, 8, 3, dtype=dtype)
    y, mean, variance = batch_norm_training(1000 + 3 * x, weight, bias)
    assert y.dtype == mean.dtype == variance.dtype == dtype
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), bias, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), np.abs(weight), rtol=1e-3)
    np.testing.assert_allclose(mean, (1000 + 3 * x).mean(axis=(0, 1, 2)), rtol=1e-6)


def test_training_statistics_are_what_inference_takes():
    x, weight, bias, *_ = example(6, 3, 4, 4, 2)
    y, mean, variance = batch_norm_training(x, weight, bias)
    np.testing.assert_allclose(batch_norm(x, weight, bias, mean, variance), y, rtol=1e-12)


def test_a_constant_channel_comes_out_as_its_bias():
    x = np.full((2, 3, 3, 2), 7, np.float32)
    y, _, variance = batch_norm_training(x, np.ones(2, np.float32), np.array([1, -2], np.float32))
    np.testing.assert_array_equal(variance, 0)
    np.testing.assert_array_equal(y, np.broadcast_to([1, -2], y.shape))


def test_running_statistics_follow_torch():
    # torch.nn.functional.batch_norm(momentum=0.1): unbiased variance, old value keeps 0.9
    x = np.array([[1.0], [2.0], [6.0]], np.float32)
    _, mean, variance = batch_norm_training(x, np.ones(1, np.float32), np.zeros(1, np.float32))
    running = update_running_statistics(
        np.zeros(1, np.float32), np.ones(1, np.float32), mean, variance, np.int64(3)
    )
    assert running[0].dtype == running[1].dtype == np.float32
    np.testing.assert_allclose(running[0], 0.1 * 3, rtol=1e-6)
    np.testing.assert_allclose(running[1], 0.9 + 0.1 * 7, rtol=1e-6)  # (4 + 1 + 9) / 2 = 7


def test_inference_folds_into_the_convolution_before():
    x, weight, bias, mean, variance = example(7, 2, 5, 5, 3)
    kernel = np.random.default_rng(8).standard_normal((3, 3, 3, 3))
    scale = weight / np.sqrt(variance + 1e-5)
    folded = convolution(x, kernel * scale[:, None, None, None], bias - mean * scale)
    plain = batch_norm(convolution(x, kernel), weight, bias, mean, variance)
    np.testing.assert_allclose(folded, plain, rtol=1e-10, atol=1e-12)


def test_messages():
    x, weight, bias, mean, variance = example(9, 2, 3, 3, 4)
    with pytest.raises(UsageError, match=r"mean has the shape \(3,\), so C is 3, .*x.*C is 4"):
        batch_norm(x, weight, bias, mean[:3], variance)
    with pytest.raises(UsageError, match=r"smallest variance of -1\.0"):
        batch_norm(x, weight, bias, mean, np.array([1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(UsageError, match="epsilon 0"):
        batch_norm(x, weight, bias, mean, variance, epsilon=0)
    with pytest.raises(UsageError, match="at least 2 values for each channel to train on, got 1"):
        update_running_statistics(mean, variance, mean, variance, 1)
