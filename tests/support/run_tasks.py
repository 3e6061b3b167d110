"""Runs tasks of the CPU engine on NumPy arrays, without a program around them.

Every value lies in one block of memory between guards. Halos, guards and everything that is not
written yet are canaries: NaNs of one bit pattern, so that reading them spoils a result, and writing
anything but the real pixels of an output is found.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
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
    """Tasks, bound to memory: ``run`` runs all chunks of all tasks."""

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Mapping[Plane, np.ndarray],
        outputs: Sequence[Plane],
        target: Target,
        between: Sequence[Plane] = (),
    ) -> None:
        """``between`` are planes that one task writes and another reads."""
        self.memory = Memory([*inputs, *outputs, *between])
        for plane, array in inputs.items():
            self.memory.pixels(plane)[...] = array
        self._scratch = np.full(max([task.scratch for task in tasks], default=0), 255, np.uint8)
        self._bases = np.zeros(FIRST_INPUT + 1, np.int64)
        self._bases[ARENA] = self.memory.bits.ctypes.data
        self._bases[SCRATCH] = self._scratch.ctypes.data
        self._calls = [self._bind(task, target) for task in tasks]
        self._keep = tasks  # the packed weights must live

    def _bind(self, task: Task, target: Target) -> tuple[object, np.ndarray, int]:
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

    def run(self, order: np.random.Generator | None = None) -> None:
        """Run task after task; the chunks of each one in turn, or shuffled by ``order``."""
        bases = self._bases.ctypes.data
        for function, arguments, chunks in self._calls:
            row = arguments.ctypes.data
            for chunk in range(chunks) if order is None else order.permutation(chunks).tolist():
                function(bases, row, chunk)


def run_tasks(
    tasks: Sequence[Task],
    inputs: Mapping[Plane, np.ndarray],
    outputs: Sequence[Plane],
    target: Target,
    *,
    between: Sequence[Plane] = (),
    seed: int = 0,
) -> list[np.ndarray]:
    """Run tasks on arrays and return the outputs, [N, H, W, C] each.

    Fails when anything but the real pixels of outputs and ``between`` changes, and when chunks in
    another order give other bits.
    """
    results = []
    for order in (None, np.random.default_rng(seed)):
        runner = Runner(tasks, inputs, outputs, target, between)
        memory = runner.memory
        before = memory.bits.copy()
        runner.run(order)
        results.append([memory.pixels(plane).copy() for plane in outputs])
        for plane in (*outputs, *between):
            memory.pixels(plane).view(np.uint32)[...] = 0
        after, memory.bits = memory.bits, before
        for plane in (*outputs, *between):
            memory.pixels(plane).view(np.uint32)[...] = 0
        np.testing.assert_array_equal(after, before, "written outside the outputs")
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
    return results[0]
