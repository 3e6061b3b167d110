"""What the processor can do, as far as the generated code depends on it.

``detect`` looks at this machine; ``level`` masks it down, so that one machine can test the code
that weaker ones run. ``AARCH64`` describes another machine, to compile for it. Which level runs
decides the order of every sum, so answers are repeatable per level. Left out: tuning per processor
model; LLVM gets the host's name for its scheduling.
"""

from __future__ import annotations

from functools import cache

from lushan.cpu.host import host
from lushan.errors import UsageError
from lushan.record import record, replace

LEVELS = ("avx512", "avx2", "neon", "generic")  # best first


@record
class Target:
    """An instruction set: vectors of ``lanes`` float32, ``registers`` of them.

    ``triple`` (processor, vendor, system), ``cpu`` and ``features`` are LLVM's words for it.
    ``fma`` says whether multiply and add are one instruction; without it they round twice.
    """

    level: str
    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    fma: bool

    @property
    def is_x86(self) -> bool:
        """Whether x86's own instructions exist there."""
        return self.triple.startswith(("x86_64", "amd64"))

    @property
    def is_aarch64(self) -> bool:
        """Whether the instructions of 64-bit ARM exist there."""
        return self.triple.startswith(("aarch64", "arm64"))


# 64-bit ARM under Linux, without what later processors have: all of them run it.
AARCH64 = Target("neon", "aarch64-unknown-linux-gnu", "generic", "", 4, 32, True)


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
    baseline = Target("generic", triple, "x86-64", "", 4, 16, False)
    if baseline.is_aarch64:
        return (replace(AARCH64, triple=triple, cpu=cpu),)
    if not baseline.is_x86:
        return (replace(baseline, cpu=cpu),)
    found = [baseline]
    if {"avx2", "fma"} <= features:
        more = "+avxvnni" if "avxvnni" in features else ""  # products of bytes
        found.insert(0, Target("avx2", triple, "x86-64-v3", more, 8, 16, True))
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        # LLVM uses half the register unless told not to.
        words = [*(f"+{name}" for name in sorted(features)), "-prefer-256-bit"]
        found.insert(0, Target("avx512", triple, cpu, ",".join(words), 16, 32, True))
    return tuple(found)
