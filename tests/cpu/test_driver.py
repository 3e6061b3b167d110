"""The native loop: every chunk once, none too early, whoever comes late or never."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from lushan.cpu import llvm
from lushan.cpu.driver import PROTOTYPE, Driver
from lushan.cpu.emit import F32, KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.team import yield_function

FULL, SEEN, FIRST, TURNS = range(4)  # the arguments of the kernel: two addresses, two numbers


def emit_kernel(target: Target) -> str:
    """Write a kernel that counts: its chunk c, and what it sees of the chunks before its task.

    seen[first + c] = the sum of full[:first], at the start; after a while, full[first + c] += 1.
    """
    e = KernelEmitter("count", target)
    full, seen = e.absolute(FULL), e.absolute(SEEN)
    place = e.add(e.argument(FIRST), e.chunk)

    def add(index: Value, total: Value) -> list[Value]:
        return [e.builder.fadd(total, e.builder.load(e.offset(full, index)))]

    (total,) = e.loop(0, e.argument(FIRST), add, carried=[F32(0.0)])
    e.builder.store(total, e.offset(seen, place))

    def wait(_: Value) -> None:
        number = e.builder.load_atomic(e.offset(seen, place), "monotonic", 4)
        e.builder.store_atomic(number, e.offset(seen, place), "monotonic", 4)

    e.loop(0, e.argument(TURNS), wait)
    own = e.offset(full, place)
    e.builder.store(e.builder.fadd(e.builder.load(own), F32(1.0)), own)
    return e.text()


@cache
def code(target: Target, *, timed: bool) -> llvm.Code:
    texts = {"count": emit_kernel(target), "driver": Driver(timed=timed).emit("driver", target)}
    return llvm.Code(target, {n: llvm.compile_object(text, target) for n, text in texts.items()})


class Table:
    """Tasks of the kernel, of so many chunks each; all but the first wait for those before.

    A chunk takes so many ``turns`` of a few cycles each.
    """

    def __init__(
        self,
        chunks: Sequence[int],
        target: Target,
        *,
        threads: int = 1,
        turns: int = 100_000,
        timed: bool = False,
    ) -> None:
        self.chunks, self.threads = chunks, threads
        self.full = np.zeros(sum(chunks), np.float32)
        self.seen = np.full(sum(chunks), -1, np.float32)
        firsts = np.cumsum([0, *chunks])[:-1]
        places = self.full.ctypes.data, self.seen.ctypes.data
        self.arguments = np.array([(*places, first, turns) for first in firsts], np.int64)
        kernel = code(target, timed=timed).address("count")
        rows = [
            (kernel, row.ctypes.data, count, number > 0)
            for number, (row, count) in enumerate(zip(self.arguments, chunks, strict=True))
        ]
        self.table = np.array(rows, np.int64).reshape(-1, 4)
        self.counters = np.zeros(len(chunks) * threads + 1, np.int64)
        self.run = PROTOTYPE(code(target, timed=timed).address("driver"))

    def work(self, number: int = 0, stamps: np.ndarray | None = None, yielding: int = 0) -> None:
        """Run the loop as thread ``number`` of a team does."""
        bases = np.zeros(3, np.int64)
        self.run(
            bases.ctypes.data,
            self.table.ctypes.data,
            len(self.table),
            number,
            self.threads,
            self.counters.ctypes.data,
            self.counters[-1:].ctypes.data,
            yielding,
            None if stamps is None else stamps.ctypes.data,
        )

    def check(self) -> None:
        """Every chunk was done once, and saw all of the tasks before its own."""
        np.testing.assert_array_equal(self.full, np.ones(len(self.full)))
        firsts = np.cumsum([0, *self.chunks])[:-1]
        np.testing.assert_array_equal(self.seen, np.repeat(firsts, self.chunks))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("yields", [False, True])
def test_chunks_are_done_once_and_in_turn(target: Target, threads: int, yields: bool) -> None:
    yielding = yield_function() if yields else 0
    for chunks in ([1], [23, 1, 8, 40], [3] * 30, [1, 0, 0, 5], [0]):
        table = Table(chunks, target, threads=threads)
        team = [
            threading.Thread(target=table.work, args=(number, None, yielding))
            for number in range(threads)
        ]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join(60)
            assert not thread.is_alive()
        table.check()


def test_no_task_at_all(target: Target) -> None:
    Table([], target).work()


def test_who_comes_when_all_is_done_returns(target: Target) -> None:
    table = Table([9, 4], target)
    table.work()
    table.check()
    table.work()
    table.check()


@pytest.mark.parametrize("number", range(5))
def test_one_thread_does_what_the_others_never_come_for(target: Target, number: int) -> None:
    table = Table([23, 1, 8, 40, 3], target, threads=5)
    table.work(number)
    table.check()


def test_nobody_returns_before_the_last_chunk_is_done(target: Target) -> None:
    """A thread that finds no chunk waits for the others': the caller reads results right away."""
    for _ in range(10):
        table = Table(
            [2], target, threads=4, turns=300_000
        )  # longer than it takes to start four threads
        ends: list[float] = []

        def work(number: int, table: Table = table, ends: list[float] = ends) -> None:
            table.work(number)
            ends.append(float(table.full.sum()))

        team = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join(60)
        assert ends == [2.0] * 4


def test_stamps_of_the_timed_loop(target: Target) -> None:
    table = Table([5, 0, 7], target, timed=True)
    stamps = np.zeros((3, 2), np.int64)
    table.work(stamps=stamps)
    table.check()
    flat = stamps.reshape(-1)
    assert flat[0] > 0
    assert (np.diff(flat) >= 0).all()  # a task begins when the one before it has ended
    assert (stamps[[0, 2], 1] > stamps[[0, 2], 0]).all()
