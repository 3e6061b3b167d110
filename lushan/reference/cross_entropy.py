"""Cross entropy: how surprised the network is by the right answer (mission, chapter 13).

    loss = sum over n, k of w[k] * q[n, k] * -log softmax(scores[n])[k]  /  D

q is the target distribution: 1 at the right class, spread out by label smoothing (Szegedy et al.
2016), or given as a whole (mixed pictures). w are class weights, 1 unless given. D makes it a
mean: the sum of w[target] for class indices and N for distributions, as in PyTorch.

Softmax and logarithm are taken together, on scores: the logarithm of a probability that has
rounded to 0 would be infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.reference.arrays import FloatArray, IntArray, check_shapes
from lushan.reference.softmax import log_softmax


def cross_entropy(
    scores: FloatArray,
    target: IntArray | FloatArray,
    *,
    label_smoothing: float = 0.0,
    class_weights: FloatArray | None = None,
) -> np.floating[Any]:
    """Return the mean loss over the batch, a scalar in the float type of ``scores`` [N, K].

    ``target`` holds class indices [N] or distributions [N, K] (rows that sum to 1);
    ``class_weights`` is [K]. With ``label_smoothing`` s, every class gets s/K of the target and
    the given target 1 - s. Raises UsageError for shapes, indices or numbers that do not fit.
    """
    weights, divisor = _weighted_target(
        "cross_entropy", scores, target, label_smoothing, class_weights
    )
    # The sum runs in float64: an epoch's mean should not depend on how it was batched.
    total = -np.sum(weights * log_softmax(scores), dtype=np.float64)
    loss: np.floating[Any] = scores.dtype.type(total / divisor)
    return loss


def cross_entropy_backward(
    scores: FloatArray,
    target: IntArray | FloatArray,
    *,
    label_smoothing: float = 0.0,
    class_weights: FloatArray | None = None,
) -> FloatArray:
    """Return the gradient of the mean loss by the scores, [N, K].

    Without class weights it is (softmax(scores) - q) / N: what was said minus what was right.
    """
    weights, divisor = _weighted_target(
        "cross_entropy_backward", scores, target, label_smoothing, class_weights
    )
    gradient: FloatArray = (
        np.exp(log_softmax(scores)) * weights.sum(axis=1, keepdims=True) - weights
    )
    gradient /= divisor
    return gradient


def _weighted_target(
    name: str,
    scores: FloatArray,
    target: npt.NDArray[Any],
    label_smoothing: float,
    class_weights: FloatArray | None,
) -> tuple[FloatArray, float]:
    """Return w * q [N, K] and the divisor D."""
    sizes = check_shapes(name, scores=(scores, "N K"), class_weights=(class_weights, "K"))
    N, K = sizes["N"], sizes["K"]
    if not 0 <= label_smoothing <= 1:
        raise UsageError(
            "label smoothing must be from 0 to 1, got {label_smoothing}",
            label_smoothing=label_smoothing,
        )
    q: FloatArray
    divisor = float(N)
    if np.issubdtype(target.dtype, np.integer):
        _check_indices(name, target, N, K)
        q = np.zeros((N, K), scores.dtype)
        q[np.arange(N), target] = 1
        if class_weights is not None:
            divisor = float(class_weights[target].sum())
    else:
        check_shapes(name, scores=(scores, "N K"), target=(target, "N K"))
        q = target
    if not divisor > 0:
        raise UsageError(
            "{operator}: the class weights of the targets sum to {divisor}; "
            "at least one must be positive",
            operator=name,
            divisor=divisor,
        )
    if label_smoothing:
        q = (1 - float(label_smoothing)) * q + float(label_smoothing) / K
    return (q if class_weights is None else q * class_weights), divisor


def _check_indices(name: str, target: IntArray, N: int, K: int) -> None:
    if target.shape != (N,):
        raise UsageError(
            "{operator}: class indices must have the shape ({N},), one for each row of scores; "
            "got {shape}",
            operator=name,
            N=N,
            shape=target.shape,
        )
    if target.min() < 0 or target.max() >= K:
        raise UsageError(
            "{operator}: class indices must be from 0 to {last}; got {low} to {high}",
            operator=name,
            last=K - 1,
            low=target.min(),
            high=target.max(),
        )
