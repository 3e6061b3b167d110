"""Threads that work on one run together, and sleep between runs.

A program has its own team: nothing is global, and an idle team uses no processor time, for its
threads are parked on locks. If a team is busy with another call, the caller works alone. After a
fork the child has no threads; the team starts new ones when it is next needed.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Team:
    """``size`` threads, the caller's among them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._workers: list[_Worker] = []
        weakref.finalize(self, _stop, self._workers)  # a team that is forgotten ends too
        if hasattr(os, "register_at_fork"):
            team = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(team))

    def run(self, work: Callable[[int, int], None]) -> None:
        """Call ``work(index, threads)`` on each thread, at once, and return when all are done."""
        if self.size == 1 or not self._busy.acquire(blocking=False):
            work(0, 1)
            return
        try:
            while len(self._workers) < self.size - 1:
                self._workers.append(_Worker(len(self._workers) + 1))
            for worker in self._workers:
                worker.start(work, self.size)
            work(0, self.size)
            for worker in self._workers:
                worker.join()
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the threads, after the run that they are in."""
        with self._busy:
            _stop(self._workers)


def _stop(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().stop()


def _forget(team: weakref.ref[Team]) -> None:
    """Drop the parent's threads, of which a child after a fork has none."""
    alive = team()
    if alive is not None:
        alive._busy = threading.Lock()
        alive._workers.clear()


class _Worker:
    """One thread and the two locks that it and its team wait on."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._work: Callable[[int, int], None] | None = None
        self._threads = 1
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        name = f"lushan-{index}"
        threading.Thread(target=self._loop, name=name, daemon=True).start()

    def start(self, work: Callable[[int, int], None], threads: int) -> None:
        self._work, self._threads = work, threads
        self._go.release()

    def join(self) -> None:
        self._done.acquire()

    def stop(self) -> None:
        self._work = None
        self._go.release()

    def _loop(self) -> None:
        while True:
            self._go.acquire()
            if self._work is None:
                return
            self._work(self._index, self._threads)
            self._work = None
            self._done.release()
