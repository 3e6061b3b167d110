"""Weights that are got when they are asked for, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.graph.weights import Factors, LazyWeights, New, derived, factors_of, shape_of


def counted(calls: list[str], name: str) -> np.ndarray:
    calls.append(name)
    return np.full(3, len(calls), np.float32)


def test_shapes_and_names_cost_nothing() -> None:
    calls: list[str] = []
    weights = LazyWeights({"a": (3,)}, {"a": lambda: counted(calls, "a")})
    assert list(weights) == ["a"]
    assert len(weights) == 1
    assert "a" in weights
    assert "b" not in weights
    assert shape_of(weights, "a") == (3,)
    assert calls == []
    assert weights["a"][0] == 1
    assert weights["a"][0] == 2  # got anew: nothing is kept
    with pytest.raises(KeyError):
        weights["b"]


def test_derived_weights_are_got_through_what_they_come_from() -> None:
    calls: list[str] = []
    weights = LazyWeights(
        {"a": (3,), "b": (3,)}, {name: lambda name=name: counted(calls, name) for name in "ab"}
    )
    new = derived(weights, {"c": New((3,), lambda: Factors(2 * weights["a"], None))})
    assert list(new) == ["a", "b", "c"]
    assert shape_of(new, "c") == (3,)
    assert calls == []
    assert new["c"][0] == 2
    assert calls == ["a"]
    chosen = derived(new, {}, iter(["c", "b"]))
    assert list(chosen) == ["c", "b"]


def test_plain_dictionaries_do_as_well() -> None:
    weights = {"a": np.zeros((2, 3), np.float32)}
    assert shape_of(weights, "a") == (2, 3)
    assert shape_of(derived(weights, {}), "a") == (2, 3)


def test_factors_are_the_weight() -> None:
    array = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    scale = np.array([1, 0.1, -3, 7], np.float32)
    new = {"product": New(array.shape, lambda: Factors(array, scale))}
    weights = derived(derived({"plain": array}, new), {})
    for name in ("plain", "product"):
        assert np.array_equal(factors_of(weights, name).product(), weights[name])
    assert np.array_equal(weights["product"], array * scale[:, None, None])
    assert factors_of(weights, "product").array is array
    assert factors_of({"plain": array}, "plain") == Factors(array, None)
