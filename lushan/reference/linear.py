"""The fully connected layer: every output sees every input (mission, chapter 11).

    y[n, oc] = bias[oc] + sum over ic of x[n, ic] * weight[oc, ic]

It is a 1×1 convolution of a one-pixel picture; with every pixel of a plane as an input of its own
it would be a convolution whose kernel is the whole plane, which is why it stands at the end, after
pooling. Two of them in a row without an activation between collapse to one (chapter 9).

The product is one BLAS call; see ``lushan.reference.convolution`` for what that means to long
float32 sums.
"""

from __future__ import annotations

from lushan.reference.arrays import FloatArray, channel_sum, check_gradient, check_shapes


def linear(x: FloatArray, weight: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """Return y [N, OC] for x [N, IC], weight [OC, IC] and bias [OC].

    Raises UsageError when the shapes do not fit each other.
    """
    check_shapes("linear", x=(x, "N IC"), weight=(weight, "OC IC"), bias=(bias, "OC"))
    y: FloatArray = x @ weight.T
    if bias is not None:
        y += bias
    return y


def linear_backward(
    grad_y: FloatArray, x: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (grad_x [N, IC], grad_weight [OC, IC], grad_bias [OC]) for grad_y [N, OC]."""
    sizes = check_shapes("linear_backward", x=(x, "N IC"), weight=(weight, "OC IC"))
    check_gradient("linear_backward", grad_y, (sizes["N"], sizes["OC"]), x.dtype)
    return (
        linear_backward_input(grad_y, weight),
        linear_backward_weight(grad_y, x),
        channel_sum(grad_y),
    )


def linear_backward_input(grad_y: FloatArray, weight: FloatArray) -> FloatArray:
    """Return grad_x [N, IC] alone."""
    check_shapes("linear_backward_input", grad_y=(grad_y, "N OC"), weight=(weight, "OC IC"))
    grad_x: FloatArray = grad_y @ weight
    return grad_x


def linear_backward_weight(grad_y: FloatArray, x: FloatArray) -> FloatArray:
    """Return grad_weight [OC, IC] alone."""
    check_shapes("linear_backward_weight", grad_y=(grad_y, "N OC"), x=(x, "N IC"))
    grad_weight: FloatArray = grad_y.T @ x
    return grad_weight
