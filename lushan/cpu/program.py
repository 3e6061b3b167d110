"""A network at one input shape, ready to run: the table of tasks and the plan of its memory.

Steps that need nothing of the steps right before them run in the same phase, without a barrier
between them. Memory is planned by phases: what is alive in the same phase never shares a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
        _row(task, partial(_place, step=entry.step, offsets=offsets, lowered=lowered))
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
        must_wait |= step.starts != part  # parts use the same temporary planes
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
    """Return the lives of the memory of every plane, in phases: one in each part of its depth."""
    end = scheduled[-1].last if scheduled else 0
    sizes = {plane.value: plane.bytes for plane in lowered.memory.values()}
    made: set[str] = set()
    spans: dict[str, dict[tuple[int, ...], tuple[int, int]]] = {}
    for entry in scheduled:
        step = entry.step
        for plane in step.temporaries:
            sizes[plane.value] = max(plane.bytes, sizes.get(plane.value, 0))
        temporaries = [plane.value for plane in step.temporaries]
        made.update(step.writes, temporaries)
        for name in (*step.reads, *step.writes, *temporaries):
            part = step.starts[: lowered.depths.get(name, len(step.starts) - 1) + 1]
            first, _ = spans.setdefault(name, {}).get(part, (entry.first, 0))
            spans[name][part] = first, entry.last
    for name in lowered.wanted:
        ((part, (first, _)),) = spans[lowered.planes[name].value].items()
        spans[lowered.planes[name].value][part] = first, end
    return [
        Life(name, sizes[name], tuple(spans[name].values()))
        for name in spans
        if name in made and name in sizes
    ]


def _place(place: Place, step: Step, offsets: Mapping[str, int], lowered: Lowered) -> list[int]:
    """Return where a step finds its pictures of a plane: a base, and an offset in bytes."""
    memory = place.value
    base, offset = (
        (lowered.inputs[memory], 0) if memory in lowered.inputs else (ARENA, offsets[memory])
    )
    plane = lowered.memory.get(memory)
    if plane:
        pictures = step.starts[-1] - step.starts[lowered.depths[memory]]
        offset += pictures * plane.image * plane.itemsize
    return [base, offset + place.offset]


def _row(task: Task, place: Callable[[Place], list[int]]) -> list[int]:
    """Return a task's arguments as the integers that its kernel reads."""
    row: dict[int, int] = {}
    for index, value in task.arguments.items():
        if isinstance(value, Place):
            row[index], row[index + 1] = place(value)
        elif isinstance(value, np.ndarray):
            row[index] = value.ctypes.data
        else:
            row[index] = value
    return [row.get(index, 0) for index in range(max(row, default=-1) + 1)]
