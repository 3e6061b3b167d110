"""Running the tasks of one layer on arrays, without lowering, program or planner."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lushan.cpu import llvm
from lushan.cpu.emit import FIRST_INPUT, SCRATCH
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Kernel, Place, Plane, Task

_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_compiled: dict[tuple[Kernel, Target], tuple[llvm.Code, Callable[[int, int, int], None]]] = {}


def compiled(kernel: Kernel, target: Target) -> Callable[[int, int, int], None]:
    """Return the native function of a kernel, compiled once per process."""
    if (kernel, target) not in _compiled:
        code = llvm.Code(target, {"k": llvm.compile_object(kernel.emit("k", target), target)})
        _compiled[kernel, target] = code, _FUNCTION(code.address("k"))
    return _compiled[kernel, target][1]


def memory(plane: Plane, picture: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the memory of a plane: NaN, or a picture [N, H, W, C] within a halo of zeros."""
    n, h, w, c = plane.shape
    top, bottom, left, right = plane.halo
    size = (n, top + h + bottom, left + w + right, c)
    if picture is None:
        return np.full(size, np.nan, np.float32)
    whole = np.zeros(size, np.float32)
    whole[:, top : top + h, left : left + w] = picture
    return whole


def inside(plane: Plane, whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pictures of a plane's memory, without the halo."""
    _, h, w, _ = plane.shape
    top, _, left, _ = plane.halo
    return whole[:, top : top + h, left : left + w]


@dataclass(frozen=True, eq=False)
class Run:
    """Tasks bound to memory; a call runs all their chunks on this thread."""

    tasks: Sequence[Task]
    arrays: Mapping[str, NDArray[np.float32]]
    bases: NDArray[np.int64]
    scratch: NDArray[np.float32]
    calls: list[tuple[Callable[[int, int, int], None], NDArray[np.int64], int]]

    def __call__(
        self, order: Callable[[int], Iterable[int]] = range, *, poison: bool = False
    ) -> None:
        """Run every task's chunks in ``order``; ``poison`` fills scratch memory with NaN before."""
        for function, row, chunks in self.calls:
            for chunk in order(chunks):
                if poison:
                    self.scratch[:] = np.nan
                function(self.bases.ctypes.data, row.ctypes.data, chunk)


def prepare(
    tasks: Sequence[Task], arrays: Mapping[str, NDArray[np.float32]], target: Target
) -> Run:
    """Bind tasks to ``arrays``, the memory of every plane by name."""
    scratch = np.zeros(max(task.scratch for task in tasks) // FLOAT, np.float32)
    names = {name: FIRST_INPUT + index for index, name in enumerate(arrays)}
    bases = np.zeros(FIRST_INPUT + len(names), np.int64)
    bases[SCRATCH] = scratch.ctypes.data
    for name, index in names.items():
        bases[index] = arrays[name].ctypes.data
    calls = []
    for task in tasks:
        row = np.zeros(64, np.int64)
        for slot, value in task.arguments.items():
            if isinstance(value, Place):
                row[slot], row[slot + 1] = names[value.value], value.offset
            else:
                row[slot] = value.ctypes.data if isinstance(value, np.ndarray) else value
        calls.append((compiled(task.kernel, target), row, task.chunks))
    return Run(tasks, arrays, bases, scratch, calls)
