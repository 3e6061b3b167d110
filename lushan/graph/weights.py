"""Weights that are read or computed when they are asked for, and not kept.

A network's weights fill most of its memory, and an engine packs them in an order of its own. So
nobody else should hold them: a file gives one tensor at a time, a pass derives one from another,
and what was asked for goes when the asker lets it go. Plain dictionaries of arrays do as well
everywhere; these functions treat both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class LazyWeights(Mapping[str, Array]):
    """Arrays by name, each with a shape that is known without it and a way to get it."""

    def __init__(
        self, shapes: Mapping[str, Shape], getters: Mapping[str, Callable[[], Array]]
    ) -> None:
        self._shapes = dict(shapes)
        self._getters = dict(getters)

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


def shape_of(weights: Mapping[str, Array], name: str) -> Shape:
    """Return the shape of a weight, without reading it where that is possible."""
    if isinstance(weights, LazyWeights):
        return weights.shape(name)
    return weights[name].shape


def derived(
    weights: Mapping[str, Array],
    new: Mapping[str, tuple[Shape, Callable[[], Array]]],
    names: Iterator[str] | None = None,
) -> LazyWeights:
    """Return ``weights`` with those in ``new``, given as (shape, how to get it), added.

    ``names`` chooses which of all of them remain, in which order; None keeps all.
    """

    def getter(name: str) -> Callable[[], Array]:
        return new[name][1] if name in new else lambda: weights[name]

    chosen = list(dict.fromkeys([*weights, *new] if names is None else names))
    shapes = {name: new[name][0] if name in new else shape_of(weights, name) for name in chosen}
    return LazyWeights(shapes, {name: getter(name) for name in chosen})
