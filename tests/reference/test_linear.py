"""The fully connected layer against ONNX Runtime, differences and a 1×1 convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.convolution import convolution, convolution_backward
from lushan.reference.linear import linear, linear_backward


def example(seed, N, IC, OC, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((N, IC), (OC, IC), (OC,))]


@given(seed=st.integers(0, 2**32 - 1), sizes=st.tuples(*[st.integers(1, 40)] * 3))
def test_linear_equals_onnx(onnx_run, assert_close, seed, sizes):
    x, weight, bias = example(seed, *sizes, dtype=np.float32)
    assert_close(linear(x, weight, bias), onnx_run("Gemm", x, weight, bias, transB=1)[0])
    assert_close(linear(x, weight), onnx_run("Gemm", x, weight, transB=1)[0])


def test_backward_equals_numerical_gradient(numerical_gradient):
    x, weight, bias = example(1, 3, 5, 4)
    grad_y = np.random.default_rng(2).standard_normal((3, 4))
    gradients = linear_backward(grad_y, x, weight)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        expected = numerical_gradient(lambda: linear(x, weight, bias), array, grad_y)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_linear_is_a_1x1_convolution_forward_and_backward():
    x, weight, bias = example(3, 4, 6, 5)
    picture, kernel = x.reshape(4, 1, 1, 6), weight.reshape(5, 1, 1, 6)
    y = linear(x, weight, bias)
    np.testing.assert_allclose(convolution(picture, kernel, bias)[:, 0, 0], y, rtol=1e-12)
    ours = linear_backward(y, x, weight)
    theirs = convolution_backward(y.reshape(4, 1, 1, 5), picture, kernel)
    for gradient, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(gradient, other.reshape(gradient.shape), rtol=1e-12)


def test_a_whole_plane_is_a_convolution_as_large_as_the_plane():
    rng = np.random.default_rng(4)
    x, kernel = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((6, 3, 4, 5))
    y = linear(x.reshape(2, -1), kernel.reshape(6, -1))
    np.testing.assert_allclose(convolution(x, kernel)[:, 0, 0], y, rtol=1e-12)


@pytest.mark.parametrize("outputs", [1, 16])  # one takes BLAS's vector path, many the matrix path
def test_long_float32_sums_keep_small_addends(outputs):
    """Chapter 14: a plain running sum of 20000000, 1, 1, … stays where it is."""
    x = np.ones((1, 1 << 16), np.float32)
    x[0, 0] = 20_000_000
    running = np.cumsum(x[0])[-1]  # one after the other
    pairwise = x.sum()  # NumPy splits the sum in halves
    product = linear(x, np.ones((outputs, x.shape[1]), np.float32))
    lost = 20_000_000 + x.shape[1] - 1 - np.array([running, pairwise, *product[0]], np.float64)
    assert running == 20_000_000
    assert np.abs(lost[1:]).max() < lost[0] / 4


def test_float32_products_err_less_than_a_running_sum():
    rng = np.random.default_rng(6)
    x, weight = rng.random((32, 4608), np.float32), rng.random((64, 4608), np.float32)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    running = np.stack([np.cumsum(x * row, axis=1)[:, -1] for row in weight], axis=1)
    errors = [np.sqrt(np.mean((y / exact - 1) ** 2)) for y in (linear(x, weight), running)]
    assert errors[0] < errors[1] / 3


def test_messages():
    x, weight, bias = example(5, 2, 3, 4)
    with pytest.raises(UsageError, match=r"weight has the shape \(4, 2\).*IC is 2.*\(2, 3\)"):
        linear(x, weight[:, :2], bias)
    with pytest.raises(UsageError, match=r"bias has the shape \(3,\), so OC is 3"):
        linear(x, weight, bias[:3])
    with pytest.raises(UsageError, match=r"grad_y has the shape \(2, 3\).*\(2, 4\)"):
        linear_backward(x, x, weight)
