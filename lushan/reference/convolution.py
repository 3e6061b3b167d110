"""Convolution: a weighted sum of every neighbourhood of a picture (mission, chapter 5).

    y[n, ho, wo, oc] = bias[oc] + sum over kh, kw, ic of
                       x[n, ho*stride - top + kh*dilation, wo*stride - left + kw*dilation, ic]
                       * weight[oc, kh, kw, ic]

with zeros where x is padding. Networks call this convolution; signal processing calls it
cross-correlation (the kernel is not flipped). The transposed convolution sends every pixel back
to the window it came from; it is the gradient of a convolution, and what deconvolution networks
(Zeiler & Fergus 2013) and decoders enlarge pictures with.

Long sums in float32 (mission, chapter 14): 20000000 + 1 is 20000000 in float32, so a plain
running sum loses every small addend that follows a large one. ResNet's longest neighbourhood has
3*3*512 = 4608 addends. A BLAS product adds some hundreds of them at a time and then the partial
sums, so that the error grows with the length of a block plus the number of blocks, not with the
length of the sum. Measured with OpenBLAS: of 4607 ones after 20000000 it loses mostly 200 to 500,
at worst 1023; over 4608 random products its relative error is 1e-7, that of a running sum 1e-6.

Left out on purpose: Winograd and FFT (the engine's business), and other padding than zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, channel_sum, check_gradient, check_shapes
from lushan.reference.geometry import Edges, Pair, Window, window
from lushan.reference.im2col import correlate, gather, spread


def convolution(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    *,
    stride: Pair = 1,
    padding: Edges = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> FloatArray:
    """Convolve x [N, H, W, IC] with weight [OC, KH, KW, IC/G] to y [N, HO, WO, OC].

    ``bias`` is [OC]; ``padding`` is one number, (height, width) or (top, bottom, left, right).
    HO = floor((H + top + bottom - dilation*(KH-1) - 1) / stride) + 1, and WO alike.
    With G ``groups``, each OC/G output channels see their own IC/G input channels only.
    Raises UsageError when shapes, sizes or groups do not fit each other.
    """
    _check_convolution("convolution", x, weight, bias, groups)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    return gather(x, weight, bias, slide, groups=groups)


def convolution_backward(
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    *,
    stride: Pair = 1,
    padding: Edges = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (grad_x [N, H, W, IC], grad_weight [OC, KH, KW, IC/G], grad_bias [OC])."""
    _check_convolution("convolution_backward", x, weight, None, groups)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    _check_gradient("convolution_backward", grad_y, x.shape, weight.shape[0], slide, weight.dtype)
    grad_x = spread(grad_y, weight, None, slide, groups=groups, size=x.shape[1:3])
    return grad_x, correlate(grad_y, x, slide, groups=groups), channel_sum(grad_y)


def convolution_backward_input(
    grad_y: FloatArray,
    weight: FloatArray,
    input_shape: tuple[int, ...],
    *,
    stride: Pair = 1,
    padding: Edges = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> FloatArray:
    """Return grad_x of ``input_shape`` [N, H, W, IC] alone; it takes the weight and not x."""
    name = "convolution_backward_input"
    check_shapes(name, weight=(weight, "OC KH KW IC/G"))
    _check_groups(name, input_shape, weight.shape, groups)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    _check_gradient(name, grad_y, input_shape, weight.shape[0], slide, weight.dtype)
    size = (input_shape[1], input_shape[2])
    return spread(grad_y, weight, None, slide, groups=groups, size=size)


def convolution_backward_weight(
    grad_y: FloatArray,
    x: FloatArray,
    *,
    kernel: Pair,
    stride: Pair = 1,
    padding: Edges = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> FloatArray:
    """Return grad_weight [OC, KH, KW, IC/G] alone, of a kernel (KH, KW); it takes x alone too."""
    name = "convolution_backward_weight"
    sizes = check_shapes(name, x=(x, "N H W IC"), grad_y=(grad_y, "N HO WO OC"))
    slide = window(kernel, stride=stride, padding=padding, dilation=dilation)
    per_group = sizes["IC"] // max(1, groups)
    _check_groups(name, x.shape, (sizes["OC"], *slide.kernel, per_group), groups)
    _check_gradient(name, grad_y, x.shape, sizes["OC"], slide, x.dtype)
    return correlate(grad_y, x, slide, groups=groups)


def transposed_convolution(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    *,
    stride: Pair = 1,
    padding: Edges = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> FloatArray:
    """Send x [N, H, W, IC] back through the convolution of ``weight``: y [N, HO, WO, OC].

    ``weight`` is [IC, KH, KW, OC/G]: the layout of the convolution from OC to IC channels that
    this transposes, whose stride, padding, dilation and groups are given; ``bias`` is [OC].
    HO = (H-1)*stride - top - bottom + dilation*(KH-1) + 1 + output_padding, and WO alike: that
    convolution maps ``stride`` different sizes to H, and ``output_padding`` (below the stride)
    says which one is meant. Raises UsageError when anything does not fit.
    """
    _check_transposed("transposed_convolution", x, weight, bias, groups)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    size = slide.transposed_size(x.shape[1], x.shape[2], output_padding)
    return spread(x, weight, bias, slide, groups=groups, size=size)


def transposed_convolution_backward(
    grad_y: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    *,
    stride: Pair = 1,
    padding: Edges = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (grad_x [N, H, W, IC], grad_weight [IC, KH, KW, OC/G], grad_bias [OC])."""
    _check_transposed("transposed_convolution_backward", x, weight, None, groups)
    slide = window(weight.shape[1:3], stride=stride, padding=padding, dilation=dilation)
    size = slide.transposed_size(x.shape[1], x.shape[2], output_padding)
    y_shape = (x.shape[0], *size, weight.shape[3] * groups)
    check_gradient("transposed_convolution_backward", grad_y, y_shape, x.dtype)
    grad_x = gather(grad_y, weight, None, slide, groups=groups)
    return grad_x, correlate(x, grad_y, slide, groups=groups), channel_sum(grad_y)


def _check_convolution(
    name: str, x: FloatArray, weight: FloatArray, bias: FloatArray | None, groups: int
) -> None:
    check_shapes(name, x=(x, "N H W IC"), weight=(weight, "OC KH KW IC/G"), bias=(bias, "OC"))
    _check_groups(name, x.shape, weight.shape, groups)


def _check_groups(name: str, x: tuple[int, ...], weight: tuple[int, ...], groups: int) -> None:
    if groups < 1 or weight[3] * groups != x[3] or weight[0] % groups:
        raise UsageError(
            "{operator}: weight {weight} [OC, KH, KW, IC/G] and groups {groups} "
            "do not fit x {x} [N, H, W, IC]",
            operator=name,
            weight=weight,
            groups=groups,
            x=x,
        )


def _check_gradient(
    name: str,
    grad_y: FloatArray,
    x: tuple[int, ...],
    channels: int,
    slide: Window,
    dtype: np.dtype[Any],
) -> None:
    """Check that grad_y is that of what ``slide`` makes of an x of this shape."""
    size = slide.output_size(x[1], x[2])
    check_gradient(name, grad_y, (x[0], *size, channels), dtype)


def _check_transposed(
    name: str, x: FloatArray, weight: FloatArray, bias: FloatArray | None, groups: int
) -> None:
    sizes = check_shapes(
        name, x=(x, "N H W IC"), weight=(weight, "IC KH KW OC/G"), bias=(bias, "OC")
    )
    output_channels = sizes["OC/G"] * groups
    if groups < 1 or sizes["IC"] % groups or sizes.get("OC", output_channels) != output_channels:
        raise UsageError(
            "{operator}: weight {weight} [IC, KH, KW, OC/G] and groups {groups} "
            "do not fit x {x} [N, H, W, IC] or bias {bias} [OC]",
            operator=name,
            weight=weight.shape,
            groups=groups,
            x=x.shape,
            bias=None if bias is None else bias.shape,
        )
