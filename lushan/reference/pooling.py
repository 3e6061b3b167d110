"""Pooling: one number for each window of each channel; no weights (mission, chapter 10).

Max pooling keeps the strongest response, and where it was: its *switches*, which send gradients
(and, when a network is run backwards to be looked at, activations; Zeiler & Fergus 2013) back to
the pixel that won. Average pooling keeps the mean; global average pooling makes one number of a
whole channel. Windows slide as in convolution; padding must be smaller than the kernel, so that
every window sees a pixel.

Left out on purpose: dilation (no network of the family has it) and ``ceil_mode``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, IntArray, check_gradient, check_shapes
from lushan.reference.geometry import Edges, Pair, Window, window


def max_pooling(
    x: FloatArray, kernel: Pair, *, stride: Pair | None = None, padding: Edges = 0
) -> tuple[FloatArray, IntArray]:
    """Return (y, switches), both [N, HO, WO, C], for x [N, H, W, C].

    A switch is the position h*W + w (int64) of the pixel that won, in the plane without padding.
    Of equal pixels the first in row-major order wins; padding never does; a NaN wins over every
    number. ``stride`` is the kernel unless given. Raises UsageError when the sizes do not fit.
    """
    check_shapes("max_pooling", x=(x, "N H W C"))
    slide = pooling_window(kernel, stride, padding)
    N, H, W, C = x.shape
    HO, WO = slide.output_size(H, W)
    y = np.full((N, HO, WO, C), -np.inf, x.dtype)
    switches = np.full((N, HO, WO, C), -1, np.int64)
    position = np.arange(H * W).reshape(1, H, W, 1)  # of each input pixel
    for tap in slide.taps(H, W, range(HO), WO):
        best = y[tap.output]
        winner = switches[tap.output]
        value = x[tap.input]
        # Not "value > best": a NaN must win, and must not be beaten afterwards.
        wins = (~(value <= best) & ~np.isnan(best)) | (winner < 0)
        np.copyto(best, value, where=wins)
        np.copyto(winner, position[tap.input], where=wins)
    return y, switches


def max_pooling_backward(
    grad_y: FloatArray, switches: IntArray, input_shape: tuple[int, int, int, int]
) -> FloatArray:
    """Return grad_x of ``input_shape`` [N, H, W, C]: each gradient goes to the pixel that won.

    Where windows overlap, a pixel that won several of them gets the sum.
    """
    N, H, W, C = input_shape
    check_gradient("max_pooling_backward", grad_y, (N, *switches.shape[1:3], C), grad_y.dtype)
    if switches.shape != grad_y.shape or switches.min() < 0 or switches.max() >= H * W:
        raise UsageError(
            "max_pooling_backward: the switches {shape}, from {low} to {high}, do not belong to "
            "grad_y {grad_y} and an input of {input_shape}",
            shape=switches.shape,
            low=switches.min(),
            high=switches.max(),
            grad_y=grad_y.shape,
            input_shape=input_shape,
        )
    grad_x = np.zeros(input_shape, grad_y.dtype)
    pictures = np.arange(N).reshape(N, 1, 1, 1)
    address = (pictures * (H * W) + switches) * C + np.arange(C)  # in the flat grad_x
    np.add.at(grad_x.reshape(-1), address.reshape(-1), grad_y.reshape(-1))
    return grad_x


def average_pooling(
    x: FloatArray,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Edges = 0,
    count_include_pad: bool = True,
) -> FloatArray:
    """Return the mean of each window, [N, HO, WO, C], for x [N, H, W, C].

    With ``count_include_pad`` padding counts as zeros; without it a window at the edge is the mean
    of its real pixels. ``stride`` is the kernel unless given.
    """
    check_shapes("average_pooling", x=(x, "N H W C"))
    slide = pooling_window(kernel, stride, padding)
    N, H, W, C = x.shape
    HO, WO = slide.output_size(H, W)
    y = np.zeros((N, HO, WO, C), x.dtype)
    for tap in slide.taps(H, W, range(HO), WO):
        y[tap.output] += x[tap.input]
    y /= _pixels_seen(slide, H, W, count_include_pad, x.dtype)
    return y


def average_pooling_backward(
    grad_y: FloatArray,
    input_shape: tuple[int, int, int, int],
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Edges = 0,
    count_include_pad: bool = True,
) -> FloatArray:
    """Return grad_x of ``input_shape`` [N, H, W, C]: every pixel gets its share of each mean."""
    slide = pooling_window(kernel, stride, padding)
    N, H, W, C = input_shape
    HO, WO = slide.output_size(H, W)
    check_gradient("average_pooling_backward", grad_y, (N, HO, WO, C), grad_y.dtype)
    share = grad_y / _pixels_seen(slide, H, W, count_include_pad, grad_y.dtype)
    grad_x = np.zeros(input_shape, grad_y.dtype)
    for tap in slide.taps(H, W, range(HO), WO):
        grad_x[tap.input] += share[tap.output]
    return grad_x


def global_average_pooling(x: FloatArray) -> FloatArray:
    """Return the mean of each channel of each picture, [N, C], for x [N, H, W, C].

    Summed in float64: a plane can have many pixels (mission, chapter 14).
    """
    check_shapes("global_average_pooling", x=(x, "N H W C"))
    mean: FloatArray = x.mean(axis=(1, 2), dtype=np.float64)
    return mean.astype(x.dtype)


def global_average_pooling_backward(
    grad_y: FloatArray, input_shape: tuple[int, int, int, int]
) -> FloatArray:
    """Return grad_x of ``input_shape`` [N, H, W, C]: every pixel gets 1 / (H*W) of grad_y."""
    N, H, W, C = input_shape
    check_gradient("global_average_pooling_backward", grad_y, (N, C), grad_y.dtype)
    grad_x = np.empty(input_shape, grad_y.dtype)
    grad_x[...] = grad_y.reshape(N, 1, 1, C) / (H * W)
    return grad_x


def pooling_window(kernel: Pair, stride: Pair | None, padding: Edges) -> Window:
    """Return the window of a pooling; raises UsageError where it might see nothing but padding."""
    slide = window(kernel, stride=kernel if stride is None else stride, padding=padding)
    (KH, KW), (top, bottom, left, right) = slide.kernel, slide.padding
    if max(top, bottom) >= KH or max(left, right) >= KW:
        raise UsageError(
            "pooling: the padding {padding} (top, bottom, left, right) must be smaller than "
            "the kernel {kernel}",
            padding=slide.padding,
            kernel=slide.kernel,
        )
    return slide


def _pixels_seen(
    slide: Window, H: int, W: int, count_include_pad: bool, dtype: np.dtype[Any]
) -> FloatArray:
    """Return the divisor of each mean, [1, HO, WO, 1]."""
    HO, WO = slide.output_size(H, W)
    if count_include_pad:
        return np.full((1, HO, WO, 1), slide.kernel[0] * slide.kernel[1], dtype)
    count = np.zeros((1, HO, WO, 1), dtype)
    for tap in slide.taps(H, W, range(HO), WO):
        count[tap.output] += 1
    return count
