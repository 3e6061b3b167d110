"""What the processor can do, as far as the generated code depends on it.

``detect`` looks at this machine; ``level`` masks it down, so that one machine can test the code
that weaker ones run. Which level runs decides the order of every sum, so answers are repeatable
per level. Left out: tuning per processor model; LLVM gets the host's name for its scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lushan.cpu.host import host
from lushan.errors import UsageError

LEVELS = ("avx512", "avx2", "generic")  # best first


@dataclass(frozen=True)
class Target:
    """An instruction set: vectors of ``lanes`` float32, ``registers`` of them.

    ``cpu`` and ``features`` are LLVM's words for it. ``fma`` says whether multiply and add are one
    instruction; without it they round twice.
    """

    level: str
    cpu: str
    features: str
    lanes: int
    registers: int
    fma: bool


def detect(level: str | None = None) -> Target:
    """Return the best target this machine has, or the one called ``level``.

    Raises UsageError for a level this machine does not have.
    """
    available = _available()
    name = level or available[0].level
    for target in available:
        if target.level == name:
            return target
    raise UsageError(
        "the instruction set {level!r} is not one of those of this machine: {known}",
        level=name,
        known=", ".join(target.level for target in available),
    )


@cache
def _available() -> tuple[Target, ...]:
    cpu, triple, features = host()
    x86 = triple.startswith(("x86_64", "amd64"))
    found = []
    if x86 and {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        # LLVM uses half the register unless told not to.
        words = [*(f"+{name}" for name in sorted(features)), "-prefer-256-bit"]
        found.append(Target("avx512", cpu, ",".join(words), 16, 32, True))
    if x86 and {"avx2", "fma"} <= features:
        found.append(Target("avx2", "x86-64-v3", "", 8, 16, True))
    generic = "x86-64" if x86 else cpu
    found.append(Target("generic", generic, "", 4, 16, fma=not x86))
    return tuple(found)
