"""Memory for weights and activations: aligned, and no other process's."""

from __future__ import annotations

import os

import pytest

from lushan.cpu.memory import WeightMemory, allocate_bytes

SIZES = (64, 1000, 2**20 - 1, 2**20, 3 * 2**20 + 5)


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_aligned(size: int) -> None:
    memory = allocate_bytes(size)
    assert memory.size == size
    assert memory.ctypes.data % 64 == 0
    memory[:] = 1  # all of it is there


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("size", SIZES)
def test_a_child_writes_into_memory_of_its_own(size: int) -> None:
    memory = allocate_bytes(size)
    memory[:] = 1
    child = os.fork()
    if child == 0:
        memory[:] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert (memory == 1).all()


def test_weights_follow_each_other() -> None:
    memory = WeightMemory()
    first, second, large = (memory.allocate(shape) for shape in ((3, 5), (16,), (9, 2**20)))
    assert second.ctypes.data == first.ctypes.data + 64
    assert large.shape == (9, 2**20)
    first[:], second[:], large[:] = 1, 2, 3
    assert (first == 1).all() and (second == 2).all() and (large == 3).all()
