"""The residual sum F(x) + x, and the shortcuts that x takes where its shape changes (chapter 8).

    y = branch + shortcut                                                 (He et al. 2015)

Where a stage halves the picture and widens its channels, x does not fit F(x) any more. Option A
picks every stride-th pixel and adds zero channels: no weights. Option B, the projection, is a 1×1
convolution with the stride and a batch norm of its own; it needs no operator here:

    shortcut = batch_norm(convolution(x, weight, stride=stride), …)
"""

from __future__ import annotations

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, check_gradient, check_same_shape, check_shapes


def add(branch: FloatArray, shortcut: FloatArray) -> FloatArray:
    """Return branch + shortcut, which must have one shape (nothing is broadcast)."""
    check_same_shape("add", branch=branch, shortcut=shortcut)
    return branch + shortcut


def add_backward(grad_y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (grad_branch, grad_shortcut): both are grad_y itself, not copies.

    The second is why deep residual networks train: the gradient passes the block undiminished.
    """
    return grad_y, grad_y


def zero_padding_shortcut(x: FloatArray, *, stride: int, channels: int) -> FloatArray:
    """Return every stride-th pixel of x [N, H, W, C] and zeros up to ``channels`` (option A).

    y is [N, ceil(H/stride), ceil(W/stride), channels]; (channels - C)//2 of the zero channels come
    before those of x, the rest after. Raises UsageError when there are fewer channels than C.
    """
    check_shapes("zero_padding_shortcut", x=(x, "N H W C"))
    before, after = zero_channels(x.shape, stride, channels)
    picked = x[:, ::stride, ::stride]
    return np.pad(picked, ((0, 0), (0, 0), (0, 0), (before, after)))


def zero_padding_shortcut_backward(
    grad_y: FloatArray, input_shape: tuple[int, int, int, int], *, stride: int
) -> FloatArray:
    """Return grad_x of ``input_shape`` [N, H, W, C]: pixels that were not picked get 0."""
    N, H, W, C = input_shape
    channels = grad_y.shape[-1]
    before, _ = zero_channels(input_shape, stride, channels)
    y_shape = (N, -(-H // stride), -(-W // stride), channels)
    check_gradient("zero_padding_shortcut_backward", grad_y, y_shape, grad_y.dtype)
    grad_x = np.zeros(input_shape, grad_y.dtype)
    grad_x[:, ::stride, ::stride] = grad_y[..., before : before + C]
    return grad_x


def zero_channels(shape: tuple[int, ...], stride: int, channels: int) -> tuple[int, int]:
    """Return how many zero channels come before and after those of x."""
    added = channels - shape[3]
    if added < 0 or stride < 1:
        raise UsageError(
            "a zero-padding shortcut cannot take x {shape} [N, H, W, C] to {channels} channels "
            "with the stride {stride}; it needs at least C channels and a stride of at least 1",
            shape=shape,
            channels=channels,
            stride=stride,
        )
    return added // 2, added - added // 2
