"""Activations: what keeps stacked layers from collapsing into one (mission, chapter 9).

Each works on every element for itself, on arrays of any shape. ``*_backward`` takes the gradient
of the output and what the forward pass leaves behind: the input x for the ReLU family, the output
y for sigmoid and tanh, whose derivatives are cheapest in terms of y.

ReLU and its relatives have no derivative at 0. Any number between the slopes on both sides is a
subgradient; here it is the slope of the negative side (0 for ReLU), as PyTorch has it.
"""

from __future__ import annotations

import numpy as np

from lushan.reference.arrays import FloatArray, channel_sum, check_same_shape, check_shapes


def relu(x: FloatArray) -> FloatArray:
    """Return max(x, 0)."""
    check_same_shape("relu", x=x)
    return np.maximum(x, 0)


def relu_backward(grad_y: FloatArray, x: FloatArray) -> FloatArray:
    """Return grad_x: the gradient passes where x > 0 and is blocked elsewhere, at 0 as well.

    The output may stand in for x: it is positive at the same places.
    """
    check_same_shape("relu_backward", x=x, grad_y=grad_y)
    return np.where(x > 0, grad_y, 0)


def leaky_relu(x: FloatArray, slope: float = 0.01) -> FloatArray:
    """Return x where it is positive and slope * x elsewhere."""
    check_same_shape("leaky_relu", x=x)
    return np.where(x > 0, x, float(slope) * x)


def leaky_relu_backward(grad_y: FloatArray, x: FloatArray, slope: float = 0.01) -> FloatArray:
    """Return grad_x: the gradient times 1 where x > 0, times the slope elsewhere, at 0 as well."""
    check_same_shape("leaky_relu_backward", x=x, grad_y=grad_y)
    return np.where(x > 0, grad_y, float(slope) * grad_y)


def prelu(x: FloatArray, slope: FloatArray) -> FloatArray:
    """Leaky ReLU with a learned slope [C] for each channel of x [..., C] (He et al. 2015)."""
    check_shapes("prelu", x=(x, "... C"), slope=(slope, "C"))
    return np.where(x > 0, x, slope * x)


def prelu_backward(
    grad_y: FloatArray, x: FloatArray, slope: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return (grad_x [..., C], grad_slope [C]); at x = 0 the slope counts for grad_x."""
    check_shapes("prelu_backward", x=(x, "... C"), slope=(slope, "C"))
    check_same_shape("prelu_backward", x=x, grad_y=grad_y)
    grad_x = np.where(x > 0, grad_y, slope * grad_y)
    return grad_x, channel_sum(grad_y * np.minimum(x, 0))


def sigmoid(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), between 0 and 1, without overflow at any x.

    exp is only taken of numbers below 0: for negative x the fraction is extended by exp(x).
    """
    check_same_shape("sigmoid", x=x)
    e = np.exp(-np.abs(x))
    y: FloatArray = np.where(x >= 0, 1, e) / (1 + e)
    return y


def sigmoid_backward(grad_y: FloatArray, y: FloatArray) -> FloatArray:
    """Return grad_x = grad_y * y * (1 - y) for the output y; the factor is at most 1/4."""
    check_same_shape("sigmoid_backward", y=y, grad_y=grad_y)
    return grad_y * y * (1 - y)


def tanh(x: FloatArray) -> FloatArray:
    """Return the hyperbolic tangent, between -1 and 1: 2 * sigmoid(2 * x) - 1."""
    check_same_shape("tanh", x=x)
    return np.tanh(x)


def tanh_backward(grad_y: FloatArray, y: FloatArray) -> FloatArray:
    """Return grad_x = grad_y * (1 - y**2) for the output y; the factor is at most 1."""
    check_same_shape("tanh_backward", y=y, grad_y=grad_y)
    return grad_y * (1 - y * y)
