"""Cores: the affinity mask, and the share of time that a container gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lushan import cores
from lushan.errors import UsageError


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that stands for /sys/fs/cgroup, on a machine with 6 of 8 cores."""
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    return tmp_path


def test_without_a_limit_the_affinity_decides(cgroup: Path) -> None:
    assert cores.usable_cores() == 6


def test_without_affinity_the_machine_decides(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.usable_cores() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable_cores() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", 6),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("900000 100000", 6),
        ("100000 0", 6),
        ("nonsense", 6),
        ("", 6),
    ],
)
def test_version_2(cgroup: Path, text: str, expected: int) -> None:
    (cgroup / "cpu.max").write_text(text + "\n")
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, 6), (300_000, 3), (20_000, 1), (0, 6)])
def test_version_1(cgroup: Path, quota: int, expected: int) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    assert cores.usable_cores() == 6  # half of it is no limit
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cores.usable_cores() == expected


def test_a_slip_of_the_keyboard_starts_no_thread() -> None:
    assert cores.thread_count(1024) == 1024
    with pytest.raises(UsageError, match="threads should be at most 1024; received 100000"):
        cores.thread_count(100_000)
