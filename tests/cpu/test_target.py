"""What is made of what LLVM says of a machine, for machines that are not here too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lushan.cpu import llvm, target
from lushan.cpu.driver import Driver
from lushan.cpu.host import Host
from lushan.cpu.packing import PackingKernel
from lushan.cpu.target import AARCH64, LEVELS, Target, detect
from lushan.cpu.winograd_packing import WinogradWeightKernel
from lushan.errors import UsageError
from support.lowering import lowered_for
from support.native_tasks import targets
from support.operator_graphs import OPERATOR_GRAPHS
from support.random_graphs import random_weights

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
    monkeypatch.setattr(target, "host", lambda: Host(cpu, triple, frozenset(features)))
    target._available.cache_clear()
    yield levels
    target._available.cache_clear()


def test_levels_of_machines(levels: list[str]) -> None:
    assert detect().level == levels[0]
    for level in LEVELS:
        if level in levels:
            found = detect(level)
            assert found.level == level
            assert found.triple == target.host().triple
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


# What the code of a level must not have: the registers and words of a better one.
FORBIDDEN = {
    "generic": r"%[yz]mm|%k[0-7]\b|^\tv",
    "avx2": r"%zmm|%k[0-7]\b|%[xy]mm(1[6-9]|2\d|3[01])\b",
    "avx512": r"(?!)",
    "neon": r"\b[zp]\d+\.[bhsd]\b",  # of the scalable vectors
}
NEEDED = {"generic": "mulps", "avx2": r"vfmadd.*%ymm", "avx512": r"vfmadd.*%zmm", "neon": "fmla"}


@pytest.mark.parametrize("name", ("direct", "winograd", "pooling", "softmax", "transposed"))
@pytest.mark.parametrize("wanted", [*targets(), AARCH64], ids=lambda wanted: wanted.level)
def test_a_masked_level_uses_nothing_better(wanted: Target, name: str) -> None:
    graph = OPERATOR_GRAPHS[name]
    lowered = lowered_for(wanted, graph, random_weights(graph, 0), {"x": (1, 18, 21, 3)})
    kernels = {task.kernel for step in lowered.steps for task in step.tasks}
    together = ""
    for kernel in (Driver(), PackingKernel(), WinogradWeightKernel(4), *kernels):
        listing = llvm.assembly(kernel.emit("kernel", wanted), wanted)
        assert not re.findall(FORBIDDEN[wanted.level], listing, re.MULTILINE), kernel
        together += listing
    assert re.search(NEEDED[wanted.level], together) or name == "pooling"


def test_an_arm_machine_runs_what_is_compiled_for_arm(levels: list[str]) -> None:
    if detect().is_aarch64:
        own = detect()
        assert (own.level, own.lanes, own.features) == (AARCH64.level, AARCH64.lanes, "")
