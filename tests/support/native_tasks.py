"""Runs tasks of the CPU engine on NumPy arrays, without lowering, planner or program.

Every value lies in one block of memory between guards. Halos, guards and everything that is not
written yet are canaries: NaNs of one bit pattern, so that reading them spoils a result, and writing
anything but the real pixels of an output is found.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import pytest

from lushan.cpu import llvm
from lushan.cpu.emit import ARENA, FIRST_INPUT, SCRATCH
from lushan.cpu.target import LEVELS, Target, detect
from lushan.cpu.task import FLOAT, Kernel, Place, Plane, Task
from lushan.errors import UsageError

CANARY = 0x7FC0DEAD  # the bits of a quiet NaN that no arithmetic gives
GUARD = 67  # elements between values: planes do not start where vectors would like
SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


def targets() -> Iterator[Target]:
    """Yield every instruction set of this machine."""
    for level in LEVELS:
        try:
            yield detect(level)
        except UsageError:
            continue


each_target = pytest.mark.parametrize("target", list(targets()), ids=lambda target: target.level)


class Memory:
    """A block of memory that holds planes by the names of their values."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        self.places: dict[str, int] = {}  # first element of each value
        end = GUARD
        for plane in planes:
            if plane.value not in self.places:
                self.places[plane.value] = end
                end += plane.bytes // FLOAT + GUARD
        self.bits = np.full(end, CANARY, np.uint32)

    def put(self, plane: Plane, picture: np.ndarray, halo: float | None = None) -> None:
        """Write the real pixels of a plane, and its halo if that is given."""
        if halo is not None:
            start = self.places[plane.value]
            self.bits[start : start + plane.bytes // FLOAT].view(np.float32)[:] = halo
        self.pixels(plane)[...] = picture

    def pixels(self, plane: Plane) -> np.ndarray:
        """Return the real pixels of a plane, [N, H, W, C], as a view."""
        start = self.places[plane.value] + plane.origin
        strides = (plane.image, plane.row, plane.shape[3], 1)
        return np.lib.stride_tricks.as_strided(
            self.bits[start:].view(np.float32), plane.shape, [FLOAT * s for s in strides]
        )


@cache
def _code(kernel: Kernel, target: Target) -> llvm.Code:
    return llvm.Code(target, {"kernel": llvm.compile_object(kernel.emit("kernel", target), target)})


class Runner:
    """Tasks, bound to memory: ``run`` runs all chunks of all tasks on this thread."""

    def __init__(self, tasks: Sequence[Task], memory: Memory, target: Target) -> None:
        self.memory = memory
        self._scratch = np.zeros(max([task.scratch for task in tasks], default=0), np.uint8)
        self._bases = np.zeros(FIRST_INPUT + 1, np.int64)
        self._bases[ARENA] = memory.bits.ctypes.data
        self._bases[SCRATCH] = self._scratch.ctypes.data
        self._calls = [self._bind(task, target) for task in tasks]
        self._keep = tasks  # the packed weights must live

    def _bind(self, task: Task, target: Target) -> tuple[Callable[..., None], np.ndarray, int]:
        function = SIGNATURE(_code(task.kernel, target).address("kernel"))
        arguments = np.zeros(max(task.arguments) + 2, np.int64)
        for slot, value in task.arguments.items():
            if isinstance(value, Place):
                offset = FLOAT * self.memory.places[value.value] + value.offset
                arguments[slot : slot + 2] = ARENA, offset
            elif isinstance(value, np.ndarray):
                assert value.flags.c_contiguous
                arguments[slot] = value.ctypes.data
            else:
                arguments[slot] = value
        return function, arguments, task.chunks

    def run(self, order: Callable[[int], Iterable[int]] = range, *, poison: bool = False) -> None:
        """Run task after task, its chunks in ``order``; ``poison``: with NaN in scratch memory."""
        bases = self._bases.ctypes.data
        for function, arguments, chunks in self._calls:
            row = arguments.ctypes.data
            for chunk in order(chunks):
                if poison:
                    self._scratch[:] = 255
                function(bases, row, int(chunk))


def run_tasks(
    tasks: Sequence[Task],
    inputs: Mapping[Plane, np.ndarray],
    outputs: Sequence[Plane],
    target: Target,
    *,
    between: Sequence[Plane] = (),
    halo: float | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Run tasks on arrays and return the outputs, [N, H, W, C] each.

    ``between`` are planes that one task writes and another reads; ``halo`` is what surrounds the
    inputs, canaries without it. Fails when anything but the real pixels of outputs and ``between``
    changes, and when chunks in another order give other bits.
    """
    results = []
    for order in (range, lambda n: range(n - 1, -1, -1), np.random.default_rng(seed).permutation):
        memory = Memory([*inputs, *outputs, *between])
        for plane, array in inputs.items():
            memory.put(plane, array, halo)
        before = memory.bits.copy()
        Runner(tasks, memory, target).run(order, poison=True)
        results.append([memory.pixels(plane).copy() for plane in outputs])
        for plane in (*outputs, *between):
            memory.pixels(plane).view(np.uint32)[...] = 0
        after, memory.bits = memory.bits, before
        for plane in (*outputs, *between):
            memory.pixels(plane).view(np.uint32)[...] = 0
        np.testing.assert_array_equal(after, before, "written outside the outputs")
    for result in zip(*results, strict=True):
        assert len({array.tobytes() for array in result}) == 1, "the order of chunks matters"
    return results[0]
