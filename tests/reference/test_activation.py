"""Activations against ONNX Runtime and numerical gradients, at 0 and far from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lushan.errors import UsageError
from lushan.reference import activation
from lushan.reference.linear import linear
from lushan.reference.softmax import softmax

floats = arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=32),
)


@given(x=floats, slope=st.floats(-1, 2, width=32))
def test_activations_equal_onnx(onnx_run, assert_close, x, slope):
    slopes = np.linspace(-0.5, 1.5, x.shape[-1], dtype=np.float32)
    for ours, theirs in [
        (activation.relu(x), onnx_run("Relu", x)),
        (activation.leaky_relu(x, slope), onnx_run("LeakyRelu", x, alpha=slope)),
        (activation.prelu(x, slopes), onnx_run("PRelu", x, slopes)),
    ]:
        assert_close(ours, theirs[0], 1e-6)
    # ONNX Runtime approximates these two by rational functions, to about 1e-7 of their range.
    assert_close(activation.sigmoid(x), onnx_run("Sigmoid", x)[0], 1e-6, scale=1)
    assert_close(activation.tanh(x), onnx_run("Tanh", x)[0], 1e-6, scale=1)


CASES = {
    "relu": (activation.relu, activation.relu_backward, False),
    "leaky_relu": (activation.leaky_relu, activation.leaky_relu_backward, False),
    "leaky_relu with a slope": (
        lambda x: activation.leaky_relu(x, 0.3),
        lambda grad_y, x: activation.leaky_relu_backward(grad_y, x, 0.3),
        False,
    ),
    "sigmoid": (activation.sigmoid, activation.sigmoid_backward, True),
    "tanh": (activation.tanh, activation.tanh_backward, True),
}


@pytest.mark.parametrize("name", CASES)
def test_backward_equals_numerical_gradient(name, numerical_gradient):
    forward, backward, takes_output = CASES[name]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4, 5))
    grad_y = rng.standard_normal(x.shape)
    gradient = backward(grad_y, forward(x) if takes_output else x)
    expected = numerical_gradient(lambda: forward(x), x, grad_y)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_prelu_backward_equals_numerical_gradient(numerical_gradient):
    rng = np.random.default_rng(2)
    x, slope = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal(5)
    grad_y = rng.standard_normal(x.shape)
    gradients = activation.prelu_backward(grad_y, x, slope)
    for array, gradient in zip((x, slope), gradients, strict=True):
        expected = numerical_gradient(lambda: activation.prelu(x, slope), array, grad_y)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_the_subgradient_at_0_is_the_slope_of_the_negative_side():
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    assert activation.relu_backward(one, zero) == 0
    assert activation.leaky_relu_backward(one, zero, 0.2) == 0.2
    grad_x, grad_slope = activation.prelu_backward(one, zero, np.array([0.3]))
    assert (grad_x, grad_slope) == (0.3, 0)


def test_relu_backward_takes_the_output_as_well():
    x = np.random.default_rng(3).standard_normal((4, 5))
    grad_y = np.ones_like(x)
    np.testing.assert_array_equal(
        activation.relu_backward(grad_y, x), activation.relu_backward(grad_y, activation.relu(x))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_stable_far_from_0(dtype):
    x = np.array([-1000, -100, -1, 0, 1, 100, 1000], dtype)  # warnings are errors here
    y = activation.sigmoid(x)
    assert y.dtype == dtype
    assert (y[0], y[3], y[-1]) == (0, 0.5, 1)
    assert 0 < y[1] < 1e-43  # not rounded to 0: exp(-100) exists, barely
    np.testing.assert_allclose(y + y[::-1], 1, rtol=1e-6)
    np.testing.assert_array_equal(activation.tanh(x[[0, -1]]), [-1, 1])


def test_sigmoid_is_the_softmax_of_two_classes():
    x = np.linspace(-20, 20, 41)
    scores = np.stack([x, np.zeros_like(x)], axis=-1)
    np.testing.assert_allclose(softmax(scores)[:, 0], activation.sigmoid(x), rtol=1e-14)


def test_tanh_is_a_stretched_sigmoid():
    x = np.linspace(-5, 5, 21)
    np.testing.assert_allclose(
        activation.tanh(x), 2 * activation.sigmoid(2 * x) - 1, rtol=1e-13, atol=1e-15
    )


def test_gradients_of_sigmoid_and_tanh_shrink_but_are_not_zero():
    x = np.array([-8.0, -2.0, 0.0])
    one = np.ones(3)
    by_sigmoid = activation.sigmoid_backward(one, activation.sigmoid(x))
    by_tanh = activation.tanh_backward(one, activation.tanh(x))
    assert 0 < by_sigmoid[0] < by_sigmoid[1] < by_sigmoid[2] == 0.25
    assert 0 < by_tanh[0] < by_tanh[1] < by_tanh[2] == 1


def test_stacked_layers_collapse_only_without_an_activation():
    # z = h(kx + b) + d = Ax + B with A = hk and B = hb + d
    rng = np.random.default_rng(4)
    x, k, h = rng.standard_normal((6, 5)), rng.standard_normal((4, 5)), rng.standard_normal((3, 4))
    b, d = rng.standard_normal(4), rng.standard_normal(3)
    collapsed = linear(x, h @ k, h @ b + d)
    np.testing.assert_allclose(linear(linear(x, k, b), h, d), collapsed, rtol=1e-10)
    assert not np.allclose(linear(activation.relu(linear(x, k, b)), h, d), collapsed)


def test_nan_is_not_hidden():
    x = np.array([[np.nan, 1.0]])
    for y in (
        activation.relu(x),
        activation.leaky_relu(x),
        activation.prelu(x, np.ones(2)),
        activation.sigmoid(x),
        activation.tanh(x),
    ):
        assert np.isnan(y[0, 0])
        assert np.isfinite(y[0, 1])


def test_messages():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(UsageError, match=r"prelu: slope has the shape \(4,\).*x.*\(2, 3\)"):
        activation.prelu(x, np.zeros(4, np.float32))
    with pytest.raises(UsageError, match=r"relu_backward: grad_y has the shape \(3, 2\)"):
        activation.relu_backward(x.T.copy(), x)
    with pytest.raises(UsageError, match="relu: x must be a NumPy array of floats, got int64"):
        activation.relu(np.arange(3))


def test_a_slope_of_another_float_type_does_not_widen_the_result():
    x = np.ones((2, 2), np.float32)
    assert activation.leaky_relu(x, np.float64(0.1)).dtype == np.float32
    assert activation.leaky_relu_backward(x, x, np.float64(0.1)).dtype == np.float32
    assert activation.relu(x).dtype == activation.relu_backward(x, x).dtype == np.float32
