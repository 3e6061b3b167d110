"""How much other processes were at work while something was measured.

A time is worth little when others wanted the same cores, and its spread does not tell: who shares
the cores from beginning to end shifts the minimum too. Linux says how long its cores were busy;
elsewhere nothing is known.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Disturbance:
    """A stretch of time, from the making of this object on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy = _seconds_of_others()

    def cores(self) -> float | None:
        """Return how many cores others kept busy, on average since the start; None if unknown."""
        busy = _seconds_of_others()
        if busy is None or self._busy is None:
            return None
        return max(0.0, (busy - self._busy) / (time.perf_counter() - self._start))


def _seconds_of_others() -> float | None:
    """Return the seconds that the machine's cores spent on anything but this process, since boot.

    Time that a virtual machine was denied by its host counts.
    """
    try:
        numbers = _STAT.read_text().splitlines()[0].split()[1:]
        ticks = dict(zip(_FIELDS, map(int, numbers), strict=False))
        busy = sum(ticks.values()) - ticks["idle"] - ticks["iowait"]
        own = os.times()
        return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system
    except (OSError, ValueError, KeyError, IndexError, AttributeError):
        return None
