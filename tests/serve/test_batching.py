"""A model's workers: what they run together, on how many threads, and what becomes of the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from lushan.serve.batching import Array, Row, Workers

PATIENCE = 20.0  # seconds: a shared machine may be slow


class Owner:
    """Collects what it is given."""

    def __init__(self, dead: bool = False) -> None:
        self.dead = dead
        self.results: dict[int, Array | Exception] = {}

    def finish(self, index: int, result: Array | Exception) -> None:
        self.results[index] = result


class Engine:
    """Gives each picture its first number, once it is let; remembers the batches."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []  # pictures, threads
        self.let = threading.Event()
        self.let.set()

    def __call__(self, batch: Array, threads: int) -> Array:
        self.runs.append((len(batch), threads))
        assert self.let.wait(PATIENCE)
        return batch[:, 0, 0, :1]


@contextmanager
def working(engine: Engine, threads: int, max_delay: float = 0.0) -> Iterator[Workers]:
    workers = Workers(engine, threads, (4, 2, 1), max_delay, lambda *told: None, "test")
    try:
        yield workers
    finally:
        engine.let.set()
        workers.close()


def row(owner: Owner, index: int) -> Row:
    return Row(owner, index, np.full((2, 2, 3), index, np.float32), time.perf_counter())


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_picture_alone_has_all_threads() -> None:
    engine, owner = Engine(), Owner()
    with working(engine, threads=3) as workers:
        workers.submit(partial(row, owner, 7))
        wait(lambda: 7 in owner.results)
    assert engine.runs == [(1, 3)]
    assert owner.results == {7: np.float32(7)}


def test_one_beside_another_has_what_is_left() -> None:
    engine, owner = Engine(), Owner()
    engine.let.clear()
    with working(engine, threads=3) as workers:
        for index in range(3):
            workers.submit(partial(row, owner, index))
            wait(lambda index=index: len(engine.runs) == index + 1)
    assert engine.runs == [(1, 3), (1, 2), (1, 1)]
    assert owner.results == {0: 0, 1: 1, 2: 2}


def test_many_that_wait_share_a_run() -> None:
    engine, owner = Engine(), Owner()
    engine.let.clear()
    with working(engine, threads=1, max_delay=PATIENCE) as workers:
        workers.submit(partial(row, owner, 0))
        wait(lambda: len(engine.runs) == 1)
        for index in range(1, 10):  # while the only thread is at work
            workers.submit(partial(row, owner, index))
        engine.let.set()
        wait(lambda: len(owner.results) == 10)
    assert [size for size, _ in engine.runs[:2]] == [1, 4]
    assert owner.results == {index: index for index in range(10)}


def test_what_has_no_picture_or_no_owner_is_not_run() -> None:
    engine, owner, gone = Engine(), Owner(), Owner(dead=True)
    with working(engine, threads=1) as workers:
        workers.submit(lambda: None)
        workers.put([row(gone, 0), row(owner, 1)])
        wait(lambda: 1 in owner.results)
    assert isinstance(gone.results[0], TimeoutError)
    assert [size for size, _ in engine.runs] == [1]


def test_closing_runs_what_is_ready_and_decodes_no_more() -> None:
    engine, owner = Engine(), Owner()
    engine.let.clear()
    workers = Workers(engine, 1, (1,), 0.0, lambda *told: None, "test")
    workers.put([row(owner, 0), row(owner, 1)])
    wait(lambda: len(engine.runs) == 1)
    workers.submit(partial(row, owner, 2))
    closing = threading.Thread(target=workers.close)
    closing.start()
    wait(lambda: workers._closed)
    engine.let.set()
    closing.join(PATIENCE)
    assert owner.results == {0: 0, 1: 1}
