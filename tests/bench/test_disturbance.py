"""Others' share of the cores, from the system's own count."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lushan.bench import disturbance
from lushan.bench.disturbance import Disturbance


def test_own_work_and_idle_time_are_no_disturbance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = tmp_path / "stat"
    clock = {"now": 0.0, "own": 0.0}
    monkeypatch.setattr(disturbance, "_STAT", stat)
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(os, "times", lambda: SimpleNamespace(user=clock["own"], system=1.0))
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    stat.write_text("cpu  1000 0 500 7000 90 0 0 0 0 0\ncpu0 1 2 3\n")
    measured = Disturbance()
    # Ten seconds later: 9 s user, 1 s system, 2 s stolen; 5 s of all that were our own.
    clock.update(now=10.0, own=5.0)
    stat.write_text("cpu  1900 0 600 7500 95 0 0 200 0 0\ncpu0 1 2 3\n")
    assert measured.cores() == pytest.approx((9 + 1 + 2 - 5) / 10)


@pytest.mark.parametrize("text", [None, "", "cpu what\n", "cpu 1 2\n"])
def test_where_the_system_does_not_tell_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text)
    monkeypatch.setattr(disturbance, "_STAT", stat)
    assert Disturbance().cores() is None
