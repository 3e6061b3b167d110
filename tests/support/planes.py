"""Random planes, and numbers to fill them with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lushan.cpu.task import Plane

# Fewer channels than any vector has lanes; whole vectors; tails; more than one group of vectors.
channels = st.one_of(st.integers(1, 40), st.sampled_from([48, 64, 67, 96, 128, 150, 256]))
halos = st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4))
shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), channels)
seeds = st.integers(0, 2**32 - 1)


def planes(value: str, shape=shapes) -> st.SearchStrategy[Plane]:
    """Return planes of random halos; ``shape`` is a shape or a strategy for one."""
    known = shape if isinstance(shape, st.SearchStrategy) else st.just(shape)
    return st.builds(Plane, st.just(value), known, halos)


def normal(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    """Return random numbers of a normal distribution."""
    numbers = np.random.default_rng(seed).standard_normal(shape) * scale
    return numbers.astype(np.float32)
