"""A network at one input shape, ready to run: the table of tasks and the plan of its memory.

Steps that need nothing of the steps right before them run in the same phase, without a barrier
between them. Memory is planned by phases: what is alive in the same phase never shares a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.code import CodeStore
from lushan.cpu.driver import ARGUMENTS, CHUNKS, COLUMNS, KERNEL, WAITS, Driver
from lushan.cpu.emit import ARENA
from lushan.cpu.lower import Lowered, Step
from lushan.cpu.task import Place, Plane, Task
from lushan.passes.plan_memory import ALIGNMENT, Life, plan_memory
from lushan.record import record


@record(eq=False)
class NativeProgram:
    """The native form of a network at one input shape.

    ``table`` is int64 [tasks, 4]; it points into ``arguments`` and at the packed ``weights``, and
    holds code addresses that ``store`` keeps alive. ``offsets`` are the places of the planes'
    memory in the arena, in bytes; after the arena's ``arena_bytes`` each thread has
    ``scratch_bytes``.
    """

    driver: int
    table: NDArray[np.int64]
    arguments: NDArray[np.int64]
    weights: tuple[NDArray[np.float32], ...]
    planes: Mapping[str, Plane]
    offsets: Mapping[str, int]
    steps: tuple[tuple[str, int], ...]  # name and number of tasks of each step
    arena_bytes: int
    scratch_bytes: int

    def memory(self, threads: int) -> int:
        """Return the bytes that a run on so many threads needs."""
        return self.arena_bytes + threads * self.scratch_bytes


def build_program(lowered: Lowered, store: CodeStore) -> NativeProgram:
    """Plan phases and memory of ``lowered``, compile its kernels, and write its table."""
    scheduled = _schedule(lowered.steps)
    offsets, arena_bytes = plan_memory(_lives(scheduled, lowered))
    tasks = [(task, waits) for entry in scheduled for task, waits in entry.tasks]
    driver = Driver()
    addresses = store.addresses([driver, *(task.kernel for task, _ in tasks)])
    rows = [
        _row(task, _places(entry.step, offsets, lowered))
        for entry in scheduled
        for task, _ in entry.tasks
    ]
    arguments = np.array([number for row in rows for number in row], np.int64)
    table = np.zeros((len(tasks), COLUMNS), np.int64)
    place = arguments.ctypes.data
    for line, (task, waits), row in zip(table, tasks, rows, strict=True):
        line[KERNEL] = addresses[task.kernel]
        line[ARGUMENTS] = place
        line[CHUNKS] = task.chunks
        line[WAITS] = waits
        place += arguments.itemsize * len(row)
    scratch = max((task.scratch for task, _ in tasks), default=0)
    return NativeProgram(
        driver=addresses[driver],
        table=table,
        arguments=arguments,
        weights=tuple(
            value
            for task, _ in tasks
            for value in task.arguments.values()
            if isinstance(value, np.ndarray)
        ),
        planes=lowered.planes,
        offsets=offsets,
        steps=tuple((entry.step.name, len(entry.tasks)) for entry in scheduled),
        arena_bytes=arena_bytes,
        scratch_bytes=-(-scratch // ALIGNMENT) * ALIGNMENT,
    )


@record
class _Scheduled:
    """A step with its first and last phase, and each task with whether a barrier is before it."""

    step: Step
    tasks: list[tuple[Task, bool]]
    first: int
    last: int


def _schedule(steps: Sequence[Step]) -> list[_Scheduled]:
    phase = 0
    fresh: set[str] = set()  # values written in the present phase
    read: set[str] = set()  # and values read there, of which some are overwritten later
    scheduled = []
    part = steps[0].starts if steps else (0,)
    for step in steps:
        must_wait = not (fresh.isdisjoint(step.reads) and read.isdisjoint(step.writes))
        must_wait |= step.starts != part
        part = step.starts
        first = phase + must_wait
        barriers = [must_wait, *(task.waits for task in step.tasks[1:])]
        if any(barriers):
            fresh, read = set(), set()
        phase += sum(barriers)
        fresh.update(step.writes)
        read.update(step.reads)
        tasks = list(zip(step.tasks, barriers, strict=True))
        scheduled.append(_Scheduled(step, tasks, first, phase))
    return scheduled


def _lives(scheduled: Sequence[_Scheduled], lowered: Lowered) -> list[Life]:
    """Return the life of the memory of every plane, in phases.

    Parts of a batch use the same memory one after another, so the first ones speak for all. What
    outlasts a part lives from the start: the next part begins there, and must leave it alone.
    """
    end = scheduled[-1].last if scheduled else 0
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    sizes = {plane.value: plane.bytes for plane in lowered.memory.values()}
    for entry in scheduled:
        for plane in entry.step.temporaries:
            sizes[plane.value] = max(plane.bytes, sizes.get(plane.value, 0))
    for entry in scheduled:
        if entry.step.starts[-1]:
            continue
        depth = len(entry.step.starts) - 1
        temporaries = tuple(plane.value for plane in entry.step.temporaries)
        for name in (*entry.step.writes, *temporaries):
            if name in sizes:
                outlasts = lowered.depths.get(name, depth) < depth
                first.setdefault(name, 0 if outlasts else entry.first)
        for name in (*entry.step.reads, *entry.step.writes, *temporaries):
            last[name] = entry.last
    last.update((lowered.planes[name].value, end) for name in lowered.wanted)
    return [Life(name, sizes[name], first[name], last[name]) for name in first]


def _places(
    step: Step, offsets: Mapping[str, int], lowered: Lowered
) -> Callable[[str], tuple[int, int]]:
    """Return where a step finds each memory: its base, and the offset of the step's pictures."""

    def place(memory: str) -> tuple[int, int]:
        base, offset = lowered.inputs.get(memory, ARENA), offsets.get(memory, 0)
        plane = lowered.memory.get(memory)
        if plane:
            pictures = step.starts[-1] - step.starts[lowered.depths[memory]]
            offset += pictures * plane.image * plane.itemsize
        return base, offset

    return place


def _row(task: Task, place: Callable[[str], tuple[int, int]]) -> list[int]:
    """Return a task's arguments as the integers that its kernel reads."""
    row: dict[int, int] = {}
    for index, value in task.arguments.items():
        if isinstance(value, Place):
            base, offset = place(value.value)
            row[index], row[index + 1] = base, offset + value.offset
        elif isinstance(value, np.ndarray):
            row[index] = value.ctypes.data
        else:
            row[index] = value
    return [row.get(index, 0) for index in range(max(row, default=-1) + 1)]
