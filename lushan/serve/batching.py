"""One thread per model that runs what is ready, several pictures at a time.

The engine gives a picture the same bits in any batch, so who shares a batch is a matter of speed
alone. A picture waits for company only while others are on their way, and never longer than
``max_delay``; while a batch runs, the next one gathers. A batch has one of a few sizes, for which
the engine keeps its plans.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


class Batcher:
    """Feeds ``run``, a function float32 [N, H, W, 3] → [N, classes], from a thread of its own.

    ``sizes`` are the batch sizes, largest first, 1 among them. ``observe`` is told of each batch:
    its size, its seconds in the engine and the seconds that each picture waited.
    """

    def __init__(
        self,
        run: Callable[[Array], Array],
        sizes: Sequence[int],
        max_delay: float,
        observe: Callable[[int, float, Sequence[float]], None],
        name: str,
    ) -> None:
        self._run = run
        self._sizes = tuple(sizes)
        self._max_delay = max_delay
        self._observe = observe
        self._ready: deque[Row] = deque()
        self._expected = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=f"lushan-engine-{name}")
        self._thread.daemon = True
        self._thread.start()

    def expect(self, pictures: int) -> None:
        """Announce ``pictures`` that will each be ``put`` or, with −1, be taken back."""
        with self._changed:
            self._expected += pictures
            self._changed.notify()

    def put(self, rows: Sequence[Row]) -> None:
        """Hand over announced pictures that are ready."""
        with self._changed:
            self._expected -= len(rows)
            self._ready.extend(rows)
            self._changed.notify()

    def close(self) -> None:
        """Run what is ready, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while rows := self._next():
            self._answer(rows)
            del rows

    def _next(self) -> list[Row]:
        """Wait for the next batch; an empty one says that there will be none."""
        with self._changed:
            while True:
                self._drop_dead()
                if not self._ready:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                left = self._ready[0].ready + self._max_delay - time.perf_counter()
                alone = len(self._ready) < self._sizes[0] and self._expected > 0
                if not alone or left <= 0 or self._closed:
                    size = next(size for size in self._sizes if size <= len(self._ready))
                    return [self._ready.popleft() for _ in range(size)]
                self._changed.wait(left)

    def _drop_dead(self) -> None:
        dead = [row for row in self._ready if row.owner.dead]
        if dead:
            self._ready = deque(row for row in self._ready if row not in dead)
        for row in dead:
            row.owner.finish(row.index, TimeoutError())

    def _answer(self, rows: list[Row]) -> None:
        start = time.perf_counter()
        try:
            scores = self._run(np.stack([row.pixels for row in rows]))
        except Exception as error:  # whatever it is, the next batch gets its chance
            for row in rows:
                row.owner.finish(row.index, error)
            return
        end = time.perf_counter()
        for row, one in zip(rows, scores, strict=True):
            row.owner.finish(row.index, one)
        self._observe(len(rows), end - start, [start - row.ready for row in rows])
