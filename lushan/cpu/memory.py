"""Memory for weights and activations: in huge pages where the system has them.

A network streams through a hundred megabytes. In pages of 4 KiB that is 25,000 entries of a
translation buffer that holds some thousands; pages of 2 MiB need fifty. They are asked for where
the system lets one ask (``madvise`` on Linux), and ordinary pages do elsewhere.
"""

from __future__ import annotations

import math
import mmap

import numpy as np
from numpy.typing import NDArray

from lushan.passes.plan_memory import ALIGNMENT

HUGE_PAGE = 2 * 2**20
BLOCK_BYTES = 16 * HUGE_PAGE


def allocate_bytes(size: int) -> NDArray[np.uint8]:
    """Return ``size`` bytes that start at a multiple of 64, of 2 MiB if there are as many."""
    alignment = HUGE_PAGE if size >= HUGE_PAGE else ALIGNMENT
    if size < HUGE_PAGE:
        raw = np.empty(size + alignment, np.uint8)
    else:
        pages = mmap.mmap(-1, size + alignment)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(pages, np.uint8)
    skip = -raw.ctypes.data % alignment
    return raw[skip : skip + size]


class WeightMemory:
    """Float32 arrays that follow each other in memory, in the order in which they are asked for.

    That order is the order of execution. So what lies behind the weights of a layer is what is
    needed next, and a kernel that prefetches past its end fetches the right thing.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)
        self._used = 0

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an array with undefined contents."""
        size = 4 * math.prod(shape)
        if self._used + size > self._block.size:
            self._block = allocate_bytes(max(size, BLOCK_BYTES))
            self._used = 0
        array = self._block[self._used : self._used + size].view(np.float32).reshape(shape)
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return array
