"""Threads that work on one run together, and sleep between runs.

A program has its own team: nothing is global, and an idle team uses no processor time, for its
threads are parked on locks. If a team is busy with another call, or closed, the caller works alone.
After a fork the child has no threads; the team starts new ones when it is next needed.

Nothing here waits for a thread: the work itself returns when nothing is left to do, whoever did it.
So an exception in the caller (a user's Ctrl-C falls between any two instructions) leaves no thread
waiting for another.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable

from lushan.cpu.locks import Locked


class _Run:
    """One run in progress. It ends with its frame, whatever ends that."""


class Team(Locked):
    """``size`` threads, the caller's among them."""

    def __init__(self, size: int) -> None:
        super().__init__()  # its lock is held for a moment only, never while work is done
        self.size = size
        self._running: Callable[[], _Run | None] = _nothing
        self._closed = False
        self._workers: list[_Worker] = []
        weakref.finalize(self, _stop, self._workers)  # a team that is forgotten ends too

    def run(self, work: Callable[[int], None], threads: int | None = None) -> None:
        """Call ``work(0)`` here and ``work(index)`` on the other threads, at once.

        ``threads`` bounds how many work, the caller among them; None bounds nothing.
        Returns when ``work(0)`` does. The others may begin later still, or not at all, so
        ``work`` must share out what there is to do, and do nothing where nothing is left.
        """
        run = _Run()
        try:
            others = (self.size if threads is None else min(threads, self.size)) - 1
            if others > 0:
                self._call(work, run, others)
            work(0)
        finally:
            del run

    def _call(self, work: Callable[[int], None], run: _Run, others: int) -> None:
        """Set so many other threads to work, unless they belong to another run."""
        with self._lock:
            if self._closed or self._running() is not None:
                return
            self._running = weakref.ref(run)
            with contextlib.suppress(RuntimeError):  # no more threads here: fewer do it all
                while len(self._workers) < others:
                    self._workers.append(_Worker(len(self._workers) + 1))
            for worker in self._workers[:others]:
                worker.start(work)

    def _renew(self) -> None:
        """Drop the parent's threads, of which a child after a fork has none."""
        super()._renew()
        self._running = _nothing
        self._workers.clear()

    def close(self) -> None:
        """End the threads, after the run that they are in. May be called twice."""
        with self._lock:
            self._closed = True
            _stop(self._workers)


def _nothing() -> None:
    """Say that no run is in progress, as a dead reference to one does."""


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


class _Worker:
    """One thread, and the lock that it waits on: open when there is something to do."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._work: Callable[[int], None] | None = None
        self._ended = False
        self._go = threading.Lock()
        self._go.acquire()
        name = f"lushan-{index}"
        threading.Thread(target=self._loop, name=name, daemon=True).start()

    def start(self, work: Callable[[int], None]) -> None:
        """Hand over work; it takes the place of what the thread has not yet begun."""
        self._work = work
        if self._go.locked():  # only the thread closes it, only its team opens it
            self._go.release()

    def stop(self) -> None:
        """End the thread when it next waits."""
        self._ended = True
        if self._go.locked():
            self._go.release()

    def _loop(self) -> None:
        while True:
            self._go.acquire()
            if self._ended:
                return
            work, self._work = self._work, None
            if work is not None:
                work(self._index)
            del work  # it holds the program, which must not live for an idle thread


def yield_function() -> int:
    """Return the address of the system's "let others run" function, 0 where there is none."""
    try:
        function = ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0
