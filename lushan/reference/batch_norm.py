"""Batch normalisation: each channel to mean 0 and variance 1, then a learned scale and shift.

    y = (x - mean) / sqrt(variance + epsilon) * weight + bias          (Ioffe & Szegedy 2015)

Inference takes mean and variance from training's running statistics: a fixed scale and shift of
each channel, which can be folded into the convolution before it (``lushan.passes``). Training
takes them from the batch itself, so that the gradient also flows through them.

x is [..., C] with C channels, everything else [C]. The statistics are summed in float64, because
a channel of one batch can have millions of pixels (mission, chapter 14).
"""

from __future__ import annotations

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, channel_sum, check_same_shape, check_shapes


def batch_norm(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    *,
    epsilon: float = 1e-5,
) -> FloatArray:
    """Normalise x [..., C] with given statistics (inference)."""
    check_shapes(
        "batch_norm",
        x=(x, "... C"),
        weight=(weight, "C"),
        bias=(bias, "C"),
        mean=(mean, "C"),
        variance=(variance, "C"),
    )
    y = x - mean
    y *= weight * _inverse_deviation(variance, epsilon)
    y += bias
    return y


def batch_norm_backward(
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    *,
    epsilon: float = 1e-5,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (grad_x [..., C], grad_weight [C], grad_bias [C]) with the statistics held fixed."""
    _check_backward(
        "batch_norm_backward", grad_y=grad_y, x=x, weight=weight, mean=mean, variance=variance
    )
    inverse = _inverse_deviation(variance, epsilon)
    grad_weight = channel_sum(grad_y * ((x - mean) * inverse))
    return grad_y * (weight * inverse), grad_weight, channel_sum(grad_y)


def batch_norm_training(
    x: FloatArray, weight: FloatArray, bias: FloatArray, *, epsilon: float = 1e-5
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Normalise x [..., C] with its own statistics; return (y, batch_mean, batch_variance).

    The variance is the biased one (divided by the number of pixels). A channel that is constant
    over the batch comes out as its bias.
    """
    check_shapes("batch_norm_training", x=(x, "... C"), weight=(weight, "C"), bias=(bias, "C"))
    count = x.size // x.shape[-1]
    mean = channel_sum(x) / count
    centred = x - mean
    variance = channel_sum(centred * centred) / count
    centred *= weight * _inverse_deviation(variance, epsilon)
    centred += bias
    return centred, mean, variance


def batch_norm_training_backward(
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    batch_mean: FloatArray,
    batch_variance: FloatArray,
    *,
    epsilon: float = 1e-5,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (grad_x [..., C], grad_weight [C], grad_bias [C]) through the batch's statistics.

    Normalising removes mean and scale from x, so grad_x has no part along either:
    grad_x = weight / deviation * (grad_y - mean(grad_y) - x̂ * mean(grad_y * x̂)).
    """
    name = "batch_norm_training_backward"
    _check_backward(
        name, grad_y=grad_y, x=x, weight=weight, mean=batch_mean, variance=batch_variance
    )
    count = x.size // x.shape[-1]
    inverse = _inverse_deviation(batch_variance, epsilon)
    normalised = (x - batch_mean) * inverse  # x̂
    grad_weight = channel_sum(grad_y * normalised)
    grad_bias = channel_sum(grad_y)
    grad_x = grad_y - grad_bias / count - normalised * (grad_weight / count)
    grad_x *= weight * inverse
    return grad_x, grad_weight, grad_bias


def update_running_statistics(
    running_mean: FloatArray,
    running_variance: FloatArray,
    batch_mean: FloatArray,
    batch_variance: FloatArray,
    count: int,
    *,
    momentum: float = 0.1,
) -> tuple[FloatArray, FloatArray]:
    """Return the (mean, variance) [C] to run inference with after one more batch.

    new = (1 - momentum) * running + momentum * batch. ``count`` is the number of pixels of a
    channel in the batch, N*H*W: the running variance is the unbiased one (divided by count - 1),
    as in PyTorch. Raises UsageError when count is below 2.
    """
    check_same_shape(
        "update_running_statistics",
        running_mean=running_mean,
        running_variance=running_variance,
        batch_mean=batch_mean,
        batch_variance=batch_variance,
    )
    if count < 2:
        raise UsageError(
            "batch norm needs at least 2 values for each channel to train on, got {count}; "
            "use larger batches or pictures",
            count=count,
        )
    keep, take = 1 - float(momentum), float(momentum)
    mean = keep * running_mean + take * batch_mean
    unbiased = float(count / (count - 1)) * batch_variance
    variance = keep * running_variance + take * unbiased
    return mean, variance


def _inverse_deviation(variance: FloatArray, epsilon: float) -> FloatArray:
    """Return 1 / sqrt(variance + epsilon)."""
    if not epsilon > 0 or np.any(variance < 0):
        raise UsageError(
            "batch norm needs variances of at least 0 and an epsilon above 0, "
            "got a smallest variance of {variance} and epsilon {epsilon}",
            variance=variance.min(),
            epsilon=epsilon,
        )
    inverse: FloatArray = 1 / np.sqrt(variance + float(epsilon))
    return inverse


def _check_backward(
    name: str,
    *,
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
) -> None:
    check_shapes(
        name, x=(x, "... C"), weight=(weight, "C"), mean=(mean, "C"), variance=(variance, "C")
    )
    check_same_shape(name, x=x, grad_y=grad_y)
