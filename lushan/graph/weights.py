"""Weights that are read or computed when they are asked for, and not kept.

A network's weights fill most of its memory, and an engine packs them in an order of its own. So
nobody else should hold them: a file gives one tensor at a time, a pass derives one from another,
and what was asked for goes when the asker lets it go. Plain dictionaries of arrays do as well
everywhere; these functions treat both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class Factors(NamedTuple):
    """A weight as ``array`` times a number for each entry of its first axis; None: times 1."""

    array: Array
    scale: Array | None

    def product(self) -> Array:
        """Return the weight, in the memory order of ``array``."""
        if self.scale is None:
            return self.array
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the type is infinite
            result: Array = self.array * self.scale.reshape(-1, *[1] * (self.array.ndim - 1))
        return result


class LazyWeights(Mapping[str, Array]):
    """Arrays by name, each with a shape that is known without it and a way to get it.

    ``factors`` has those that are products: whoever copies a weight anyway (an engine that packs
    it) can multiply on the way. ``origin`` names a state of a file such that weights of the same
    origin and name have the same bits; None where that is not known.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        getters: Mapping[str, Callable[[], Array]],
        factors: Mapping[str, Callable[[], Factors]] | None = None,
        origin: str | None = None,
    ) -> None:
        self.origin = origin
        self._shapes = dict(shapes)
        self._getters = dict(getters)
        self._factors = dict(factors or {})

    def __getitem__(self, name: str) -> Array:
        return self._getters[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._getters  # without getting it

    def __iter__(self) -> Iterator[str]:
        return iter(self._getters)

    def __len__(self) -> int:
        return len(self._getters)

    def shape(self, name: str) -> Shape:
        """Return the shape of the array called ``name``."""
        return self._shapes[name]

    def factors(self, name: str) -> Factors:
        """Return the array called ``name`` as factors."""
        return self._factors[name]() if name in self._factors else Factors(self[name], None)


def shape_of(weights: Mapping[str, Array], name: str) -> Shape:
    """Return the shape of a weight, without reading it where that is possible."""
    if isinstance(weights, LazyWeights):
        return weights.shape(name)
    return weights[name].shape


def factors_of(weights: Mapping[str, Array], name: str) -> Factors:
    """Return a weight as factors, whose product it is, bit for bit."""
    if isinstance(weights, LazyWeights):
        return weights.factors(name)
    return Factors(weights[name], None)


class New(NamedTuple):
    """A weight that a pass adds: its shape, and how to get it, as factors."""

    shape: Shape
    factors: Callable[[], Factors]

    def get(self) -> Array:
        """Return the weight."""
        return self.factors().product()


def origin_of(weights: Mapping[str, Array]) -> str | None:
    """Return the origin of weights, if it is known."""
    return weights.origin if isinstance(weights, LazyWeights) else None


def derived(
    weights: Mapping[str, Array],
    new: Mapping[str, New],
    names: Iterator[str] | None = None,
    *,
    origin: str | None = None,
) -> LazyWeights:
    """Return ``weights`` with those in ``new`` added.

    ``names`` chooses which of all of them remain, in which order; None keeps all. ``origin`` is
    that of the result.
    """
    chosen = list(dict.fromkeys([*weights, *new] if names is None else names))
    return LazyWeights(
        {n: new[n].shape if n in new else shape_of(weights, n) for n in chosen},
        {n: new[n].get if n in new else partial(weights.__getitem__, n) for n in chosen},
        {n: new[n].factors if n in new else partial(factors_of, weights, n) for n in chosen},
        origin,
    )
