"""Kernels as bytes that need nothing but to be mapped: a warm start does without LLVM.

Loading LLVM takes a fresh process longer than a picture. What it compiles here is simple: one
function, and constants that it reads relative to its own place. ``link`` lays the two side by side
and fills in the distances, once, when the kernel is compiled; ``MappedCode`` puts the result into
executable memory. It knows what LLVM makes of kernels on x86-64 Linux. Whatever else it meets it
leaves to LLVM's own loader.

Left out on purpose: unwinding tables. No exception passes through a kernel.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

ALIGNMENT = 64  # of each kernel: that of a vector of AVX-512, which constants may want
_OBJECT = struct.Struct("<16s2HI3QI6H")  # the header of an ELF file
_HEADER = struct.Struct("<2I4Q2I2Q")  # the header of a section
_SYMBOL = struct.Struct("<I2BH2Q")
_RELOCATION = struct.Struct("<2Qq")
_RELOCATABLE, _X86_64 = 1, 62
_CONTENTS, _SYMBOLS, _RELOCATIONS = 1, 2, 4  # kinds of sections: what the compiler made, …
_WRITABLE, _ALLOCATED = 1, 2
_RELATIVE = (2, 4)  # R_X86_64_PC32, R_X86_64_PLT32: the distance to a symbol, in 32 bits


def is_supported() -> bool:
    """Return whether this system maps linked code."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


def link(data: bytes, name: str) -> bytes | None:
    """Return the code of an object file with its constants, entered at its first byte.

    None where that would not be all: the function ``name`` is not at the start of its section,
    something outside is needed, or an address has to be absolute.
    """
    header = _OBJECT.unpack_from(data)
    if header[0][:6] != b"\x7fELF\x02\x01" or header[1:3] != (_RELOCATABLE, _X86_64):
        return None
    start, size, count = header[6], *header[11:13]
    sections = [_Section(*_HEADER.unpack_from(data, start + size * i)) for i in range(count)]
    symbols = next((s for s in sections if s.kind == _SYMBOLS), None)
    if symbols is None:
        return None
    entry = _entry(data, sections, symbols, name)
    if entry is None:
        return None
    # The function's section comes first; x86's unwinding tables have a kind of their own.
    kept = [i for i, s in enumerate(sections) if s.kind == _CONTENTS and s.flags & _ALLOCATED]
    kept.sort(key=lambda index: index != entry)
    image = bytearray()
    places: dict[int, int] = {}
    for index in kept:
        section = sections[index]
        if section.flags & _WRITABLE or section.alignment > ALIGNMENT:
            return None
        image.extend(bytes(-len(image) % max(1, section.alignment)))
        places[index] = len(image)
        image += data[section.offset : section.offset + section.size]
    for section in sections:
        if section.kind == _RELOCATIONS and section.info in places:
            base = places[section.info]
            for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
                place, what, addend = _RELOCATION.unpack_from(data, at)
                symbol = symbols.offset + _SYMBOL.size * (what >> 32)
                *_, target, value, _ = _SYMBOL.unpack_from(data, symbol)
                if what & 0xFFFFFFFF not in _RELATIVE or target not in places:
                    return None
                distance = places[target] + value + addend - (base + place)
                struct.pack_into("<i", image, base + place, distance)
    return bytes(image)


def _entry(data: bytes, sections: list[_Section], symbols: _Section, name: str) -> int | None:
    """Return the section that starts with the function ``name``."""
    texts = sections[symbols.link]
    for at in range(symbols.offset, symbols.offset + symbols.size, _SYMBOL.size):
        text, _, _, section, value, _ = _SYMBOL.unpack_from(data, at)
        start = texts.offset + text
        if data[start : start + len(name) + 1] == name.encode() + b"\0":
            return section if value == 0 and 0 < section < len(sections) else None
    return None


class MappedCode:
    """Linked kernels in executable memory; addresses live as long as this object.

    Raises OSError where the system allows no new code.
    """

    def __init__(self, images: Mapping[str, bytes]) -> None:
        whole = bytearray()
        self._offsets: dict[str, int] = {}
        for name, image in images.items():
            whole.extend(bytes(-len(whole) % ALIGNMENT))
            self._offsets[name] = len(whole)
            whole += image
        # Never writable and executable at once, which some systems refuse.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, max(1, len(whole)), flags=flags)
        self._memory[: len(whole)] = bytes(whole)
        self._first = ctypes.c_char.from_buffer(self._memory)
        self._start = ctypes.addressof(self._first)
        if _protect(self._start, len(self._memory), mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "code cannot be mapped")

    def address(self, name: str) -> int:
        """Return the address of the kernel ``name``."""
        return self._start + self._offsets[name]


def _protect(start: int, size: int, modes: int) -> int:
    """Say what may be done with memory; 0 where that worked."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    failed: int = protect(start, size, modes)
    return failed
