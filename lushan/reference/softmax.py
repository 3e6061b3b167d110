"""From scores to an answer: softmax, hard max, top-k (mission, chapter 12).

    softmax(x)[i] = exp(x[i]) / sum over j of exp(x[j])

Softmax turns scores into positive numbers that sum to 1 and keeps their order; of two classes it
is the sigmoid of their difference. Hard max keeps the largest score and nothing else. Top-k names
the k best classes; everything that ranks predictions uses the one here, so that equal scores are
ranked alike everywhere.
"""

from __future__ import annotations

import numpy as np

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, IntArray, check_same_shape, check_shapes


def softmax(x: FloatArray, axis: int = -1) -> FloatArray:
    """Return the softmax of x along ``axis``, in the shape of x.

    The largest score is subtracted first, which changes nothing in the quotient and keeps exp
    from overflowing. Scores that have no softmax (a NaN, an infinity at the top) give NaN.
    """
    e: FloatArray = np.exp(_shifted("softmax", x, axis))
    e /= e.sum(axis=axis, keepdims=True)
    return e


def softmax_backward(grad_y: FloatArray, y: FloatArray, axis: int = -1) -> FloatArray:
    """Return grad_x = y * (grad_y - sum(grad_y * y)) for the output y of softmax."""
    check_same_shape("softmax_backward", y=y, grad_y=grad_y)
    mean: FloatArray = (grad_y * y).sum(axis=axis, keepdims=True)
    return y * (grad_y - mean)


def log_softmax(x: FloatArray, axis: int = -1) -> FloatArray:
    """Return log(softmax(x)), exact also where softmax itself rounds to 0."""
    shifted = _shifted("log_softmax", x, axis)
    total: FloatArray = np.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - np.log(total)


def log_softmax_backward(grad_y: FloatArray, y: FloatArray, axis: int = -1) -> FloatArray:
    """Return grad_x = grad_y - exp(y) * sum(grad_y) for the output y of log_softmax."""
    check_same_shape("log_softmax_backward", y=y, grad_y=grad_y)
    total: FloatArray = grad_y.sum(axis=axis, keepdims=True)
    return grad_y - np.exp(y) * total


def hard_max(x: FloatArray, axis: int = -1) -> FloatArray:
    """Return the largest score along ``axis``: of (3, 4) that is 4, where softmax says 27:73."""
    check_same_shape("hard_max", x=x)
    return np.asarray(x.max(axis=axis))


def top_k(scores: FloatArray, k: int) -> IntArray:
    """Return the indices [..., k] of the k largest scores [..., K], the best first.

    Of equal scores the lower index comes first. Raises UsageError when k is not from 1 to K, or
    when a score is NaN: such scores have no order.
    """
    K = check_shapes("top_k", scores=(scores, "... K"))["K"]
    if not 1 <= k <= K:
        raise UsageError("top-k needs a k from 1 to {classes}, got {k}", classes=K, k=k)
    if np.isnan(scores).any():
        raise UsageError(
            "top-k: {count} of {size} scores are NaN; the network or its input is broken",
            count=int(np.isnan(scores).sum()),
            size=scores.size,
        )
    # A partition finds the k-th largest score in linear time, but says nothing about its equals.
    kth = np.partition(scores, K - k, axis=-1)[..., K - k, np.newaxis]  # [..., 1]
    above, equal = scores > kth, scores == kth
    wanted = k - above.sum(axis=-1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=-1) <= wanted))  # k in each row
    indices = np.nonzero(chosen)[-1].reshape(*scores.shape[:-1], k)
    order = np.argsort(-np.take_along_axis(scores, indices, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(indices, order, axis=-1)


def _shifted(name: str, x: FloatArray, axis: int) -> FloatArray:
    """Return x minus its largest value along ``axis``."""
    check_same_shape(name, x=x)
    with np.errstate(invalid="ignore"):  # infinity - infinity is NaN, as documented
        return np.asarray(x - x.max(axis=axis, keepdims=True))
