"""Residual sums and shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.convolution import convolution
from lushan.reference.residual import (
    add,
    add_backward,
    zero_padding_shortcut,
    zero_padding_shortcut_backward,
)


def test_add_and_its_gradients(numerical_gradient):
    rng = np.random.default_rng(1)
    branch, shortcut, grad_y = rng.standard_normal((3, 2, 3, 3, 2))
    np.testing.assert_array_equal(add(branch, shortcut), branch + shortcut)
    for array, gradient in zip((branch, shortcut), add_backward(grad_y), strict=True):
        expected = numerical_gradient(lambda: add(branch, shortcut), array, grad_y)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    stride=st.integers(1, 3),
    added=st.integers(0, 7),
)
def test_zero_padding_shortcut_equals_onnx(onnx_run, seed, shape, stride, added):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    y = zero_padding_shortcut(x, stride=stride, channels=shape[3] + added)
    before = added // 2
    (theirs,) = onnx_run(
        "Pad",
        np.moveaxis(x, -1, 1)[:, :, ::stride, ::stride].copy(),
        np.array([0, before, 0, 0, 0, added - before, 0, 0]),
    )
    np.testing.assert_array_equal(y, np.moveaxis(theirs, 1, -1))
    assert y.dtype == np.float32


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_zero_padding_shortcut_backward_equals_numerical_gradient(stride, numerical_gradient):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 5, 4, 3))

    def forward():
        return zero_padding_shortcut(x, stride=stride, channels=8)

    grad_y = rng.standard_normal(forward().shape)
    gradient = zero_padding_shortcut_backward(grad_y, x.shape, stride=stride)
    expected = numerical_gradient(forward, x, grad_y)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_zero_padding_shortcut_of_resnet_cifar():
    x = np.ones((1, 32, 32, 16), np.float32)
    y = zero_padding_shortcut(x, stride=2, channels=32)
    assert y.shape == (1, 16, 16, 32)
    assert (y[..., 8:24] == 1).all()
    assert y.sum() == 16 * 16 * 16


def test_zero_padding_shortcut_is_a_fixed_1x1_convolution():
    x = np.random.default_rng(3).standard_normal((2, 7, 6, 3))
    kernel = np.zeros((8, 1, 1, 3))
    kernel[[2, 3, 4], 0, 0, [0, 1, 2]] = 1  # (8 - 3) // 2 = 2 channels of zeros before
    np.testing.assert_allclose(
        zero_padding_shortcut(x, stride=2, channels=8), convolution(x, kernel, stride=2)
    )


def test_messages():
    x = np.zeros((1, 4, 4, 8), np.float32)
    with pytest.raises(UsageError, match=r"shortcut has the shape \(1, 2, 2, 8\).*\(1, 4, 4, 8\)"):
        add(x, x[:, ::2, ::2])
    with pytest.raises(UsageError, match=r"\(1, 4, 4, 8\).* to 7 channels"):
        zero_padding_shortcut(x, stride=2, channels=7)
    with pytest.raises(UsageError, match="stride 0"):
        zero_padding_shortcut(x, stride=0, channels=8)
    with pytest.raises(UsageError, match=r"grad_y has the shape \(1, 4, 4, 8\).*\(1, 2, 2, 8\)"):
        zero_padding_shortcut_backward(x, x.shape, stride=2)
