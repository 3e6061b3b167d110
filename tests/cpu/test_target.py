"""What is made of what LLVM says of a machine, for machines that are not here too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lushan.cpu import llvm, target
from lushan.cpu.driver import Driver
from lushan.cpu.target import AARCH64, LEVELS, detect
from lushan.errors import UsageError

AVX2 = {"avx2", "fma", "sse2"}
AVX512 = {*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl"}
MACHINES = {
    "server": (("znver4", "x86_64-unknown-linux-gnu", AVX512), ["avx512", "avx2", "generic"]),
    "laptop": (("skylake", "x86_64-apple-darwin", AVX2), ["avx2", "generic"]),
    "no bw": (("knl", "x86_64-unknown-linux-gnu", AVX512 - {"avx512bw"}), ["avx2", "generic"]),
    "old": (("core2", "x86_64-unknown-linux-gnu", {"sse2"}), ["generic"]),
    "graviton": (("neoverse-n1", "aarch64-unknown-linux-gnu", {"neon"}), ["neon"]),
    "mac": (("apple-m1", "arm64-apple-darwin22", {"neon"}), ["neon"]),
    "other": (("sifive-u74", "riscv64-unknown-linux-gnu", {"f", "d"}), ["generic"]),
}


@pytest.fixture(params=MACHINES)
def levels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Pretend to be a machine, and return its levels, best first."""
    (cpu, triple, features), levels = MACHINES[request.param]
    monkeypatch.setattr(llvm, "host", lambda: (cpu, triple, frozenset(features)))
    target._available.cache_clear()
    yield levels
    target._available.cache_clear()


def test_levels_of_machines(levels: list[str]) -> None:
    assert detect().level == levels[0]
    for level in LEVELS:
        if level in levels:
            found = detect(level)
            assert found.level == level
            assert found.triple == llvm.host()[1]
        else:
            with pytest.raises(UsageError, match=f"{level}.*{', '.join(levels)}"):
                detect(level)


def test_lanes_registers_and_fma(levels: list[str]) -> None:
    expected = {
        "avx512": (16, 32, True),
        "avx2": (8, 16, True),
        "neon": (4, 32, True),
        "generic": (4, 16, False),  # a processor of which nothing is known rounds twice
    }
    for level in levels:
        found = detect(level)
        assert (found.lanes, found.registers, found.fma) == expected[level]


def test_the_driver_has_no_foreign_word(levels: list[str]) -> None:
    for level in levels:
        text = Driver().emit("driver", detect(level))
        assert ("llvm.x86." in text) == detect(level).is_x86
        assert ("llvm.aarch64." in text) == detect(level).is_aarch64


def test_an_arm_machine_runs_what_is_compiled_for_arm(levels: list[str]) -> None:
    if detect().is_aarch64:
        own = detect()
        assert (own.level, own.lanes, own.features) == (AARCH64.level, AARCH64.lanes, "")
