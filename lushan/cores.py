"""How many processor cores this process may use: its affinity and its container's quota.

And so how many threads an engine gets.
"""

from __future__ import annotations

import os
from pathlib import Path

from lushan.errors import UsageError

_CGROUP = Path("/sys/fs/cgroup")
_MOST_THREADS = 1024  # more is a slip of the keyboard, and each costs a stack


def usable_cores() -> int:
    """Return the number of cores this process may use, at least 1.

    The affinity mask where the system has one, else the machine's cores; less where a cgroup
    (version 2 or 1) gives the process a smaller share of time.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _cgroup_quota(_CGROUP)
    return max(1, cores if quota is None else min(cores, round(quota)))


def thread_count(threads: int | None) -> int:
    """Return how many threads to use: ``threads``, or as many as cores where that is None.

    Raises UsageError for what is no number of threads.
    """
    if threads is None:
        return usable_cores()
    if type(threads) is not int or threads < 1:
        raise UsageError("threads should be 1 or more; received {value!r}", value=threads)
    if threads > _MOST_THREADS:
        raise UsageError(
            "threads should be at most {most}; received {value}", most=_MOST_THREADS, value=threads
        )
    return threads


def _cgroup_quota(root: Path) -> float | None:
    """Return the cores that the cgroup mounted at ``root`` allows, None where it sets no limit."""
    try:
        if (root / "cpu.max").exists():  # version 2: "max 100000" or "150000 100000"
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()  # version 1: −1 is no limit
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
