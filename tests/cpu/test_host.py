"""What LLVM says of the processor is kept, for this processor and this system alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lushan.cpu import host, llvm

DESCRIPTION = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Some Processor
stepping\t: 6
microcode\t: 0xd0003a5
cpu MHz\t\t: {clock}
core id\t\t: 0
flags\t\t: fpu avx2 {flags}

processor\t: 1
flags\t\t: others
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names LLVM gave, in an empty cache and for the processor of ``DESCRIPTION``."""
    monkeypatch.setenv("LUSHAN_CACHE", str(tmp_path / "cache"))
    given: list[str] = []

    def answer() -> tuple[str, str, frozenset[str]]:
        given.append(f"processor-{len(given)}")
        return given[-1], "x86_64-unknown-linux-gnu", frozenset({"avx2", "fma"})

    monkeypatch.setattr(llvm, "host", answer)
    monkeypatch.setattr(host, "_DESCRIPTION", tmp_path / "cpuinfo")
    describe(tmp_path)
    return given


def describe(folder: Path, clock: str = "2000.0", flags: str = "fma") -> None:
    (folder / "cpuinfo").write_text(DESCRIPTION.format(clock=clock, flags=flags))


def test_llvm_is_asked_once(asked: list[str], tmp_path: Path) -> None:
    first = host.host()
    assert first == ("processor-0", "x86_64-unknown-linux-gnu", {"avx2", "fma"})
    describe(tmp_path, clock="3999.9")
    assert host.host() == first
    assert asked == ["processor-0"]


def test_another_processor_is_another(asked: list[str], tmp_path: Path) -> None:
    host.host()
    describe(tmp_path, flags="")
    assert host.host().processor == "processor-1"
    describe(tmp_path)
    assert host.host().processor == "processor-0"


def test_another_system_is_another(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    host.host()
    monkeypatch.setattr(host.os, "uname", lambda: ("Linux", "elsewhere", "6.0", "#1", "x86_64"))
    assert host.host().processor == "processor-1"


@pytest.mark.parametrize("content", [None, "", "processor : 0\n\nflags : fma\n"])
def test_without_a_description_llvm_is_asked_each_time(
    asked: list[str], tmp_path: Path, content: str | None
) -> None:
    (tmp_path / "cpuinfo").unlink()
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    host.host()
    host.host()
    assert len(asked) == 2
    assert not (tmp_path / "cache").exists()


def test_a_damaged_record_is_mended(asked: list[str], tmp_path: Path) -> None:
    host.host()
    (record,) = (tmp_path / "cache").iterdir()
    record.write_bytes(record.read_bytes()[:-1])
    assert host.host().processor == "processor-1"
    assert host.host().processor == "processor-1"


def test_this_machine_is_what_llvm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUSHAN_CACHE", str(tmp_path / "cache"))
    assert host.host() == llvm.host()
    assert host.host() == llvm.host()
