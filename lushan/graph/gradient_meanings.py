"""What the operators of a training step compute: how their nodes call ``lushan.reference``.

Most are the function of the same name. Where that takes the shape of x, a node has x itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lushan.graph.executor import Array
from lushan.reference import (
    activation,
    arrays,
    batch_norm,
    convolution,
    cross_entropy,
    linear,
    pooling,
    residual,
    sgd,
)


def _shaped(function: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function that takes x last of the arrays where ``function`` takes its shape."""

    def meaning(*inputs: Array, **options: Any) -> Array:
        arrays.check_shapes(function.__name__, grad_y=(inputs[0], "..."), x=(inputs[-1], "..."))
        return function(*inputs[:-1], inputs[-1].shape, **options)

    return meaning


GRADIENT_MEANINGS: Mapping[str, Callable[..., Any]] = {
    "convolution_backward_input": _shaped(convolution.convolution_backward_input),
    "convolution_backward_weight": convolution.convolution_backward_weight,
    "channel_sum": arrays.channel_sum,
    "linear_backward_input": linear.linear_backward_input,
    "linear_backward_weight": linear.linear_backward_weight,
    "batch_norm_backward": batch_norm.batch_norm_backward,
    "batch_norm_training_backward": batch_norm.batch_norm_training_backward,
    "relu_backward": activation.relu_backward,
    "leaky_relu_backward": activation.leaky_relu_backward,
    "prelu_backward": activation.prelu_backward,
    "sigmoid_backward": activation.sigmoid_backward,
    "tanh_backward": activation.tanh_backward,
    "max_pooling_backward": _shaped(pooling.max_pooling_backward),
    "average_pooling_backward": _shaped(pooling.average_pooling_backward),
    "global_average_pooling_backward": _shaped(pooling.global_average_pooling_backward),
    "zero_padding_shortcut_backward": _shaped(residual.zero_padding_shortcut_backward),
    "cross_entropy_backward": cross_entropy.cross_entropy_backward,
    "gradient_norm": sgd.gradient_norm,
    "total_norm": sgd.total_norm,
    "clipping_factor": sgd.clipping_factor,
    "sgd": sgd.sgd,
}
