"""Memory for weights and activations: private to the process, and aligned.

Python's ``mmap`` would share anonymous memory with the children of a fork, which would then write
into each other's arenas. Huge pages are asked for by training alone. To recognise a picture a
network streams through a hundred megabytes, but hardware walks its page tables ahead of the
kernels: with pages of 2 MiB it took 1 % less. A virtual machine that hands free memory back to
its host needed 150 to 350 ms for its first touch of such pages, and 55 ms for as much memory in
pages of 4 KiB, which it keeps. A training step of ResNet-50 goes through 1.7 GB again and again: it
took 0 to 3 % less, the more the busier the machine was.
"""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np
from numpy.typing import NDArray

from lushan.passes.plan_memory import ALIGNMENT

BLOCK_BYTES = 32 * 2**20
_MAPPED_BYTES = 2**20  # from here on, whole pages of its own


def allocate_bytes(size: int, *, huge: bool = False) -> NDArray[np.uint8]:
    """Return ``size`` bytes that start at a multiple of 64, on ``huge`` pages where there are."""
    if size < _MAPPED_BYTES:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        skip = -raw.ctypes.data % ALIGNMENT
        return raw[skip : skip + size]
    if hasattr(mmap, "MAP_PRIVATE"):
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        pages = mmap.mmap(-1, size)  # Windows, which has no fork
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


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
