"""Stochastic gradient descent: one step of every weight downhill (mission, chapter 13).

    g = factor * gradient + weight_decay * parameter
    velocity = momentum * velocity + g
    parameter = parameter - learning_rate * (g + momentum * velocity)     Nesterov, or
    parameter = parameter - learning_rate * velocity                      without

Nesterov's step looks ahead to where the velocity is going to carry the weight (Sutskever et al.
2013). The rate is outside of the velocity, as in PyTorch: a new rate counts at once, for all of it.
The factor is 1 unless gradients are clipped: where the norm of all gradients together is beyond a
bound, all shrink alike, so that the step keeps its direction (Pascanu et al. 2013).
"""

from __future__ import annotations

import math

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, check_same_shape, check_shapes


def sgd(
    parameter: FloatArray,
    velocity: FloatArray,
    gradient: FloatArray,
    learning_rate: FloatArray,
    momentum: FloatArray,
    weight_decay: FloatArray,
    factor: FloatArray | None = None,
    *,
    nesterov: bool = True,
) -> tuple[FloatArray, FloatArray]:
    """Return the new (parameter, velocity), of one shape with the gradient; the rest are numbers.

    A velocity begins as zeros.
    """
    check_same_shape("sgd", parameter=parameter, velocity=velocity, gradient=gradient)
    check_shapes(
        "sgd",
        parameter=(parameter, "..."),
        learning_rate=(learning_rate, ""),
        momentum=(momentum, ""),
        weight_decay=(weight_decay, ""),
        factor=(factor, ""),
    )
    if factor is not None:
        gradient = gradient * factor
    g = gradient + weight_decay * parameter
    new_velocity = momentum * velocity + g
    step = g + momentum * new_velocity if nesterov else new_velocity
    return parameter - learning_rate * step, new_velocity


def gradient_norm(gradient: FloatArray) -> FloatArray:
    """Return the Euclidean norm of all numbers of a gradient, summed up in float64."""
    check_same_shape("gradient_norm", gradient=gradient)
    squares = np.sum(np.square(gradient, dtype=np.float64))
    return np.asarray(np.sqrt(squares), gradient.dtype)


def total_norm(*norms: FloatArray) -> FloatArray:
    """Return the norm of several gradients together from the norms of each."""
    check_shapes("total_norm", **{f"norm {n}": (norm, "") for n, norm in enumerate(norms)})
    return np.asarray(math.hypot(*map(float, norms)), norms[0].dtype)


def clipping_factor(norm: FloatArray, *, most: float) -> FloatArray:
    """Return what to multiply gradients with, so that their ``norm`` is at most ``most``.

    It is min(1, most / norm), 1 for a norm of 0. A norm that is NaN gives NaN.
    """
    check_shapes("clipping_factor", norm=(norm, ""))
    if not most > 0:
        raise UsageError("gradients are clipped to a norm above 0, got {most}", most=most)
    with np.errstate(divide="ignore"):
        quotient = np.asarray(float(most) / norm)
    return np.asarray(np.minimum(quotient, 1), norm.dtype)
