"""Arrays beside memory that nobody may touch: a step too far, and the process ends."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest


def guarded(array: np.ndarray, *, before: bool = False) -> np.ndarray:
    """Return a copy of bytes that ends where memory ends, or with ``before`` begins there."""
    size = -(-array.size // mmap.PAGESIZE) * mmap.PAGESIZE
    page = mmap.mmap(-1, size + mmap.PAGESIZE)
    _forbid(page, 0 if before else size)
    start = mmap.PAGESIZE if before else size - array.size
    memory = np.frombuffer(page, np.uint8)[start : start + array.size].reshape(array.shape)
    memory[...] = array
    return memory


def _forbid(page: mmap.mmap, start: int) -> None:
    """Make the page at ``start`` unreadable."""
    first = ctypes.addressof(ctypes.c_char.from_buffer(page))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(first + start, mmap.PAGESIZE, 0):
        pytest.skip("this system does not forbid memory")
