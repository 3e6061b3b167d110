"""Linked kernels do what LLVM's own loader makes of them; what cannot be linked is left to it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lushan.cpu import code, llvm, machine_code
from lushan.cpu.cache import ObjectCache
from lushan.cpu.code import CodeStore
from lushan.cpu.emit import KernelEmitter
from lushan.cpu.machine_code import ALIGNMENT, MappedCode, is_supported, link
from lushan.cpu.target import Target, detect
from lushan.cpu.task import Kernel
from support.native_tasks import SIGNATURE

linked_here = pytest.mark.skipif(not is_supported(), reason="no code is linked on this system")
NUMBERS = [0.1 * number for number in range(64)]


class TableKernel:
    """Stores constants that no instruction holds, and goes where its first argument says."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __repr__(self) -> str:
        return f"TableKernel({self.factor})"

    def emit(self, name: str, target: Target) -> str:
        e = KernelEmitter(name, target)
        place = e.absolute(0)
        for number in NUMBERS:
            e.store(e.splat(self.factor * number), place)
            place = e.offset(place, target.lanes)
        return e.text()


def expected(factor: float, target: Target) -> np.ndarray:
    return np.repeat(np.float32(factor * np.array(NUMBERS)), target.lanes)


def run(address: int, target: Target) -> np.ndarray:
    result = np.zeros(len(NUMBERS) * target.lanes, np.float32)
    arguments = np.array([result.ctypes.data], np.int64)
    SIGNATURE(address)(None, arguments.ctypes.data, 0)
    return result


def compiled(text: str, target: Target | None = None) -> bytes:
    return llvm.compile_object(text, target or detect())


@linked_here
def test_linked_kernels_do_what_they_should(target: Target) -> None:
    images = {}
    for factor in (1.0, -3.0, 0.7):
        image = link(compiled(TableKernel(factor).emit("k", target), target), "k")
        assert image is not None
        images[str(factor)] = image + b"\0" * int(factor == 1)  # no multiple of the alignment
    mapped = MappedCode(images)
    for factor in (1.0, -3.0, 0.7):
        address = mapped.address(str(factor))
        assert address % ALIGNMENT == 0
        assert np.array_equal(run(address, target), expected(factor, target))


EMPTY = 'define void @"k"() {\n ret void\n}\n'
REFUSED = {
    "another name": EMPTY.replace("k", "other"),
    "a part of the name": EMPTY.replace("k", "kernel"),
    "not the first": EMPTY.replace("k", "first") + EMPTY,
    "something outside": 'declare void @f()\ndefine void @"k"() {\n call void @f()\n ret void\n}\n',
    "memory to write": (
        "@n = internal global i32 7\n"
        'define void @"k"() {\n store volatile i32 1, i32* @n\n ret void\n}\n'
    ),
}


@linked_here
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_a_function_with_constants_is_refused(text: str) -> None:
    if "i32* @n" in text and llvm.llvm.llvm_version_info[0] >= 17:
        text = text.replace("i32* @n", "ptr @n")
    assert link(compiled(EMPTY), "k") is not None
    assert link(compiled(text), "k") is None


def test_other_formats_are_refused() -> None:
    assert link(b"\xcf\xfa\xed\xfe" + bytes(200), "k") is None
    data = compiled(EMPTY)
    if is_supported():
        for place, other in ((4, 1), (5, 2), (16, 2), (18, 183)):  # bits, order, kind, processor
            assert data[place] != other
            assert link(data[:place] + bytes([other]) + data[place + 1 :], "k") is None


@linked_here
def test_code_is_never_writable_and_executable() -> None:
    mapped = MappedCode({"k": link(compiled(EMPTY), "k") or b""})
    address = mapped.address("k")
    modes = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= address < last:
            modes.append(line.split()[1][:3])
    assert modes == ["r-x"]


@linked_here
def test_a_system_that_maps_no_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "_protect", lambda *_: -1)
    with pytest.raises(OSError, match="code cannot be mapped"):
        MappedCode({"k": b"\xc3"})


def loads(store: CodeStore, factor: float = 2.0) -> np.ndarray:
    kernel: Kernel = TableKernel(factor)
    return run(store.addresses([kernel])[kernel], detect())


def refuse(images: Mapping[str, bytes]) -> MappedCode:
    raise OSError("no code here")


def test_where_no_code_can_be_mapped_llvm_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, cache = detect(), ObjectCache(tmp_path / "cache")
    wanted = expected(2.0, target)
    assert np.array_equal(loads(CodeStore(target, cache)), wanted)
    monkeypatch.setattr(code, "MappedCode", refuse)
    store = CodeStore(target, cache)
    assert np.array_equal(loads(store), wanted)
    assert np.array_equal(loads(store, 3.0), expected(3.0, target))
    monkeypatch.setattr(code, "is_supported", lambda: False)
    assert np.array_equal(loads(CodeStore(target, cache)), wanted)  # as the last one kept it
    monkeypatch.undo()
    assert np.array_equal(loads(CodeStore(target, cache)), wanted)  # an object file is good too


@linked_here
def test_a_system_without_links_ignores_what_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, cache = detect(), ObjectCache(tmp_path / "cache")
    loads(CodeStore(target, cache))
    monkeypatch.setattr(code, "is_supported", lambda: False)
    monkeypatch.setattr(code, "MappedCode", refuse)
    assert np.array_equal(loads(CodeStore(target, cache)), expected(2.0, target))


def test_addresses_are_those_of_functions() -> None:
    target = detect()
    store = CodeStore(target, ObjectCache(None))
    kernels = [TableKernel(float(number)) for number in range(5)]
    addresses = store.addresses(kernels)
    assert len(set(addresses.values())) == 5
    assert store.addresses(kernels) == addresses
    for kernel in kernels:
        assert ctypes.c_ubyte.from_address(addresses[kernel]).value
        assert np.array_equal(run(addresses[kernel], target), expected(kernel.factor, target))
