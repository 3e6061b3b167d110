"""Softmax, hard max and top-k: figures of the article, oracle, ties, and stability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.softmax import (
    hard_max,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
    top_k,
)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    axis=st.integers(-3, 2),
)
def test_softmax_equals_onnx(onnx_run, assert_close, seed, shape, axis):
    axis = max(-len(shape), min(axis, len(shape) - 1))
    x = (20 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    assert_close(softmax(x, axis), onnx_run("Softmax", x, axis=axis)[0], 1e-6)
    assert_close(log_softmax(x, axis), onnx_run("LogSoftmax", x, axis=axis)[0], 1e-6, scale=20)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize(
    ("forward", "backward"),
    [(softmax, softmax_backward), (log_softmax, log_softmax_backward)],
    ids=["softmax", "log_softmax"],
)
def test_backward_equals_numerical_gradient(forward, backward, axis, numerical_gradient):
    rng = np.random.default_rng(1)
    x, grad_y = rng.standard_normal((2, 2, 3, 4))
    gradient = backward(grad_y, forward(x, axis), axis)
    expected = numerical_gradient(lambda: forward(x, axis), x, grad_y)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("scores", "percent"),
    [((2, 1, 0.1), (65.9, 24.2, 9.9)), ((2.1, 1.9, 0.1), (51.2, 41.9, 6.9))],
)
def test_figures_of_the_article(scores, percent):
    np.testing.assert_array_equal(np.round(100 * softmax(np.array(scores)), 1), percent)


def test_hard_max():
    assert hard_max(np.array([3.0, 4.0])) == 4
    np.testing.assert_array_equal(hard_max(np.array([[1.0, 5.0], [7.0, 2.0]]), 0), [7, 5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_stable_and_keeps_the_ranking(dtype):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4 - 1, -3e4]], dtype)
    y = softmax(x)
    assert y.dtype == log_softmax(x).dtype == dtype
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(y[0], y[1], rtol=1e-6)
    assert (np.diff(y) < 0).all()
    np.testing.assert_allclose(log_softmax(x)[0, 2], -2e4, rtol=1e-4)  # softmax itself gives 0


def test_adding_a_constant_changes_nothing():
    x = np.random.default_rng(2).standard_normal((3, 5))
    np.testing.assert_allclose(softmax(x + 7.5), softmax(x), rtol=1e-13)


def test_scores_without_a_softmax_give_nan():
    x = np.array([[1, np.nan], [1, np.inf], [-np.inf, -np.inf], [-np.inf, 0]])
    y = softmax(x)
    assert np.isnan(y[0]).all()
    assert np.isnan(y[1, 1])
    assert np.isnan(y[2]).all()
    np.testing.assert_array_equal(y[3], [0, 1])


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(7,), (1,), (4, 9), (2, 3, 5), (3, 1000)]),
    values=st.integers(1, 50),
)
def test_top_k_is_the_start_of_a_stable_sort(seed, shape, values):
    scores = np.random.default_rng(seed).integers(-values, values, shape).astype(np.float32)
    scores[..., 0] = [-np.inf, np.inf, 0][seed % 3]
    k = 1 + seed % shape[-1]
    expected = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    indices = top_k(scores, k)
    assert indices.shape == (*shape[:-1], k)
    np.testing.assert_array_equal(indices, expected)


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 4), st.integers(1, 30)))
def test_top_k_equals_onnx(onnx_run, seed, shape):
    scores = np.random.default_rng(seed).integers(0, 5, shape).astype(np.float32)
    k = 1 + seed % shape[1]
    _, theirs = onnx_run("TopK", scores, np.array([k]), outputs=2)
    np.testing.assert_array_equal(top_k(scores, k), theirs)


def test_messages():
    scores = np.zeros((2, 10), np.float32)
    for k in (0, -1, 11, 5000):
        with pytest.raises(UsageError, match=f"a k from 1 to 10, got {k}"):
            top_k(scores, k)
    scores[1, 3] = np.nan
    with pytest.raises(UsageError, match="1 of 20 scores are NaN"):
        top_k(scores, 5)
    with pytest.raises(UsageError, match=r"softmax: x must be a NumPy array of floats, got int64"):
        softmax(np.arange(3))
