"""Weights that are got when they are asked for, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.graph.weights import LazyWeights, derived, shape_of


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
    new = derived(weights, {"c": ((3,), lambda: 2 * weights["a"])})
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
