"""A model's workers: as many threads as cores, each of which decodes a picture or runs a batch.

More threads at work than cores would take turns by the system's clock, and all be late. So what
there is to do is begun in the order in which it came, and done in one go. The engine gives a
picture the same bits in any batch and on any number of threads, so both are a matter of speed
alone: a batch gets the cores that nothing else has work for. While few wait, a picture is run as
soon as it is decoded; while many do, they are decoded first, and share a batch. A batch has one of
a few sizes, for which the engine keeps its plans.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Owner(Protocol):
    """Whoever waits for scores."""

    @property
    def dead(self) -> bool:
        """Whether nobody waits any more."""

    def finish(self, index: int, result: Array | Exception) -> None:
        """Take the scores [classes] of the picture ``index``, or why there are none."""


@dataclass(frozen=True, eq=False)  # two rows are never the same
class Row:
    """One picture, ready for the engine, and whom its scores are for."""

    owner: Owner
    index: int
    pixels: Array  # [H, W, 3]
    ready: float  # time.perf_counter()


class Workers:
    """Run ``run(batch, threads)``: float32 [N, H, W, 3] → [N, classes], and what comes before.

    ``sizes`` are the batch sizes, largest first, 1 among them. ``max_delay`` is how many
    seconds a picture waits while others are decoded to share its batch, where there are too few
    for a full one. ``observe`` is told of each batch: its size, its seconds in the engine and the
    seconds that each picture waited.
    """

    def __init__(
        self,
        run: Callable[[Array, int], Array],
        threads: int,
        sizes: Sequence[int],
        max_delay: float,
        observe: Callable[[int, float, Sequence[float]], None],
        name: str,
    ) -> None:
        self._run = run
        self._sizes = tuple(sizes)
        self._max_delay = max_delay
        self._observe = observe
        self._waiting: deque[Callable[[], Row | None]] = deque()  # pictures to be decoded
        self._ready: deque[Row] = deque()
        self._idle = threads
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._loop, name=f"lushan-{name}-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, decode: Callable[[], Row | None]) -> None:
        """Have a picture decoded; ``decode`` never raises: None says that there is no picture."""
        with self._changed:
            self._waiting.append(decode)
            self._changed.notify()

    def put(self, rows: Sequence[Row]) -> None:
        """Hand over pictures that need no decoding here."""
        with self._changed:
            self._ready.extend(rows)
            self._changed.notify()

    def close(self) -> None:
        """Run what is ready, drop what is not decoded, then end the threads."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _loop(self) -> None:
        while work := self._next():
            row = work()
            with self._changed:
                self._idle += 1
                if row:
                    self._ready.append(row)  # for this thread: it is the one that has time now
            del work, row  # a picture must not live for an idle thread

    def _next(self) -> Callable[[], Row | None] | None:
        """Wait for something to do; None says that there will be nothing."""
        with self._changed:
            while True:
                self._drop_dead()
                if self._ready and self._enough():
                    self._idle -= 1
                    return self._batch()
                if self._waiting:
                    self._idle -= 1
                    return self._waiting.popleft()
                if self._closed:
                    return None
                self._changed.wait()

    def _enough(self) -> bool:
        """Return whether the pictures that are ready should wait no longer for company."""
        if len(self._ready) >= min(self._sizes[0], len(self._waiting)):
            return True
        if len(self._ready) + len(self._waiting) >= self._sizes[0]:
            return False  # a full batch is here: it costs least per picture
        return time.perf_counter() - self._ready[0].ready >= self._max_delay

    def _batch(self) -> Callable[[], None]:
        """Take a batch, and as many threads for it as cores have nothing else to do."""
        size = next(size for size in self._sizes if size <= len(self._ready))
        rows = [self._ready.popleft() for _ in range(size)]
        if self._ready:
            self._changed.notify()
        free = 1 + self._idle - len(self._waiting) - bool(self._ready)
        return partial(self._answer, rows, max(1, free))

    def _drop_dead(self) -> None:
        dead = [row for row in self._ready if row.owner.dead]
        if dead:
            self._ready = deque(row for row in self._ready if row not in dead)
        for row in dead:
            row.owner.finish(row.index, TimeoutError())

    def _answer(self, rows: list[Row], threads: int) -> None:
        start = time.perf_counter()
        try:
            scores = self._run(np.stack([row.pixels for row in rows]), threads)
        except Exception as error:  # whatever it is, the next batch gets its chance
            for row in rows:
                row.owner.finish(row.index, error)
            return
        end = time.perf_counter()
        for row, one in zip(rows, scores, strict=True):
            row.owner.finish(row.index, one)
        self._observe(len(rows), end - start, [start - row.ready for row in rows])
