"""Cross entropy against ONNX Runtime and differences, with smoothing and class weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.cross_entropy import cross_entropy, cross_entropy_backward
from lushan.reference.softmax import softmax


def example(seed, N=5, K=4, dtype=np.float64):
    rng = np.random.default_rng(seed)
    scores = (3 * rng.standard_normal((N, K))).astype(dtype)
    return scores, rng.integers(0, K, N), rng.uniform(0.1, 2, K).astype(dtype)


@given(
    seed=st.integers(0, 2**32 - 1),
    N=st.integers(1, 6),
    K=st.integers(1, 9),
    weighted=st.booleans(),
)
def test_cross_entropy_equals_onnx(onnx_run, assert_close, *, seed, N, K, weighted):
    scores, target, weights = example(seed, N, K, np.float32)
    inputs = [scores, target, weights] if weighted else [scores, target]
    (theirs,) = onnx_run("SoftmaxCrossEntropyLoss", *inputs, reduction="mean")
    ours = cross_entropy(scores, target, class_weights=weights if weighted else None)
    assert_close(np.asarray(ours), theirs, 1e-5, scale=1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("distributions", [False, True])
def test_backward_equals_numerical_gradient(
    label_smoothing, weighted, distributions, numerical_gradient
):
    scores, target, weights = example(1)
    if distributions:
        target = softmax(np.random.default_rng(2).standard_normal(scores.shape))
    options = {
        "label_smoothing": label_smoothing,
        "class_weights": weights if weighted else None,
    }
    gradient = cross_entropy_backward(scores, target, **options)
    expected = numerical_gradient(
        lambda: cross_entropy(scores, target, **options), scores, np.ones(())
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_without_options_it_is_what_was_said_minus_what_was_right():
    scores, target, _ = example(3)
    right = np.eye(4)[target]
    np.testing.assert_allclose(
        cross_entropy_backward(scores, target), (softmax(scores) - right) / 5
    )


def test_values_by_hand():
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    target = np.array([0, 1])
    surprise = -math.log(0.5), -math.log(0.1)
    assert cross_entropy(scores, target) == pytest.approx(sum(surprise) / 2)
    weights = np.array([1.0, 3.0, 5.0])
    weighted = (1 * surprise[0] + 3 * surprise[1]) / (1 + 3)
    assert cross_entropy(scores, target, class_weights=weights) == pytest.approx(weighted)
    smooth = 0.7 * sum(surprise) / 2 + 0.3 * -scores.mean()
    assert cross_entropy(scores, target, label_smoothing=0.3) == pytest.approx(smooth)
    # Smoothing with weights, as PyTorch: the spread part is weighted, divided by the same sum.
    spread = -(scores * weights).sum() / (1 + 3) / 3
    both = cross_entropy(scores, target, label_smoothing=0.3, class_weights=weights)
    assert both == pytest.approx(0.7 * weighted + 0.3 * spread)


def test_one_hot_distributions_are_class_indices():
    scores, target, _ = example(4)
    for label_smoothing in (0.0, 0.2):
        assert cross_entropy(scores, np.eye(4)[target], label_smoothing=label_smoothing) == (
            cross_entropy(scores, target, label_smoothing=label_smoothing)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_scores_stay_finite_and_the_float_type_is_kept(dtype):
    scores = np.array([[1000, -1000], [0, 0]], dtype)
    loss = cross_entropy(scores, np.array([1, 0], np.uint8))
    assert loss.dtype == cross_entropy_backward(scores, np.array([1, 0])).dtype == dtype
    assert loss == pytest.approx((2000 + math.log(2)) / 2)
    weights = np.array([0.3, 0.6], dtype)
    loss = cross_entropy(
        scores, np.array([1, 0]), label_smoothing=np.float64(0.1), class_weights=weights
    )
    assert loss.dtype == dtype


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (np.array([0, 1]), {}, r"the shape \(5,\), one for each row of scores; got \(2,\)"),
        (np.array([0, 1, 2, 3, 4]), {}, "from 0 to 3; got 0 to 4"),
        (np.array([0, 1, -1, 3, 2]), {}, "from 0 to 3; got -1 to 3"),
        (np.zeros((5, 3)), {}, r"target has the shape \(5, 3\), so K is 3.*\(5, 4\)"),
        (np.zeros((5, 4), np.float32), {}, "target is float32, but scores is float64"),
        (np.zeros(5, int), {"label_smoothing": 1.5}, "from 0 to 1, got 1.5"),
        (np.zeros(5, int), {"class_weights": np.ones(3)}, r"class_weights has the shape \(3,\)"),
        (np.zeros(5, int), {"class_weights": np.zeros(4)}, "sum to 0.0"),
    ],
)
def test_messages(target, options, message):
    scores = np.zeros((5, 4))
    for function in (cross_entropy, cross_entropy_backward):
        with pytest.raises(UsageError, match=message):
            function(scores, target, **options)
