"""Weights in the order that kernels read them, made once and shared by every picture size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Packed = TypeVar("Packed")


class Packer:
    """The weights of one program, original and packed; safe to use from several threads."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._packed: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the original weights called ``name``."""
        return self._weights[name]

    def once(self, key: Hashable, pack: Callable[[], Packed]) -> Packed:
        """Return what ``pack`` returned when ``key`` was first asked for."""
        with self._lock:
            if key not in self._packed:
                self._packed[key] = pack()
            packed: Packed = self._packed[key]
            return packed
