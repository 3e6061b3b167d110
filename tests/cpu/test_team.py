"""Teams of threads: all work, none is lost, idle ones sleep, forks and busy teams are fine."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable

import pytest

from lushan.cpu.team import Team


def everybody(size: int) -> tuple[list[int], Callable[[int], None]]:
    """Return work that returns when all threads have come, and who did."""
    seen: list[int] = []
    all_here = threading.Barrier(size)

    def work(index: int) -> None:
        seen.append(index)
        all_here.wait(10)

    return seen, work


def test_every_thread_works_in_every_run() -> None:
    team = Team(4)
    for _ in range(20):
        seen, work = everybody(4)
        team.run(work)
        assert sorted(seen) == [0, 1, 2, 3]
    team.close()


def test_fewer_threads_than_wanted_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user may have no more, and while the interpreter ends, starting one fails."""
    start, started = threading.Thread.start, []

    def refuse_the_second(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    team = Team(4)
    for _ in range(3):
        seen, work = everybody(2)
        team.run(work)
        assert sorted(seen) == [0, 1]
    team.close()


def test_a_busy_team_leaves_the_caller_alone() -> None:
    team = Team(2)
    inside, go_on = threading.Event(), threading.Event()

    def hold(index: int) -> None:
        inside.set()
        go_on.wait()

    first = threading.Thread(target=lambda: team.run(hold))
    first.start()
    inside.wait()
    seen: list[int] = []
    team.run(seen.append)
    assert seen == [0]
    go_on.set()
    first.join()
    team.close()


def test_a_closed_team_leaves_the_caller_alone() -> None:
    team = Team(2)
    team.close()
    team.close()
    others = threading.active_count()
    seen: list[int] = []
    team.run(seen.append)
    assert seen == [0]
    assert threading.active_count() == others


def test_a_run_that_is_interrupted_leaves_a_team_that_works() -> None:
    team = Team(3)
    for _ in range(20):

        def interrupted(index: int) -> None:
            if index == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            team.run(interrupted)
        seen, work = everybody(3)
        team.run(work)
        assert sorted(seen) == [0, 1, 2]
    team.close()


def test_close_ends_the_threads() -> None:
    others = set(threading.enumerate())
    team = Team(3)
    team.run(lambda index: None)
    own = set(threading.enumerate()) - others
    assert len(own) == 2
    team.close()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


def test_a_forgotten_team_ends_its_threads() -> None:
    others = set(threading.enumerate())
    team = Team(2)
    team.run(lambda index: None)
    own = set(threading.enumerate()) - others
    del team
    gc.collect()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


def test_idle_threads_use_no_processor_time() -> None:
    team = Team(3)
    team.run(lambda index: None)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1
    team.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_after_fork_gets_its_own_threads() -> None:
    team = Team(2)
    team.run(lambda index: None)
    child = os.fork()
    if child == 0:
        seen, work = everybody(2)
        team.run(work)
        os._exit(0 if sorted(seen) == [0, 1] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    team.close()
