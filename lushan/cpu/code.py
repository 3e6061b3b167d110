"""From specifications of kernels to addresses of machine code, compiled at most once.

A process keeps the code of every kernel it has needed; all programs share it. What is new is read
from the cache, or compiled and put there: linked, ready to be mapped, where that can be done here,
else as an object file for LLVM's loader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Protocol

import llvmlite

from lushan.cpu.cache import ObjectCache, cache_folder, source_hash
from lushan.cpu.locks import Locked, no_fork
from lushan.cpu.machine_code import MappedCode, is_supported, link
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel

_LINKED, _OBJECT = b"L", b"O"  # what a cached file begins with


class Loaded(Protocol):
    """Kernels in executable memory."""

    def address(self, name: str) -> int:
        """Return the address of the kernel ``name``."""


class CodeStore(Locked):
    """The compiled kernels of one target in this process; safe to use from several threads."""

    def __init__(self, target: Target, objects: ObjectCache) -> None:
        super().__init__()
        self._target = target
        self._objects = objects
        self._addresses: dict[Kernel, int] = {}
        self._loaded: list[Loaded] = []  # addresses live as long as these
        self._maps = is_supported()

    @property
    def kernels(self) -> int:
        """How many kernels this process has needed so far."""
        return len(self._addresses)

    def addresses(self, kernels: Iterable[Kernel]) -> dict[Kernel, int]:
        """Return the address of each kernel, compiling what is missing."""
        wanted = list(dict.fromkeys(kernels))
        with self._lock:
            missing = [kernel for kernel in wanted if kernel not in self._addresses]
            if missing:
                self._load({self._key(kernel): kernel for kernel in missing})
            return {kernel: self._addresses[kernel] for kernel in wanted}

    def _load(self, kernels: Mapping[str, Kernel]) -> None:
        kept = {name: self._cached(name) or self._compile(name, kernels[name]) for name in kernels}
        linked = {name: data[1:] for name, data in kept.items() if data[:1] == _LINKED}
        if linked:
            try:
                self._keep(MappedCode(linked), {name: kernels[name] for name in linked})
            except OSError:  # perhaps the loader of LLVM knows a way
                self._maps = False
                kept |= {name: self._compile(name, kernels[name]) for name in linked}
        objects = {name: data[1:] for name, data in kept.items() if data[:1] == _OBJECT}
        if objects:
            with no_fork:
                from lushan.cpu import llvm
            code = llvm.Code(self._target, objects)
            self._keep(code, {name: kernels[name] for name in objects})

    def _keep(self, code: Loaded, kernels: Mapping[str, Kernel]) -> None:
        self._loaded.append(code)
        for name, kernel in kernels.items():
            self._addresses[kernel] = code.address(name)

    def _cached(self, name: str) -> bytes | None:
        """Return a kernel from the cache, if it is there in a form that this system loads."""
        data = self._objects.get(name)
        accepted = (_LINKED, _OBJECT) if self._maps else (_OBJECT,)
        return data if data and data[:1] in accepted else None

    def _compile(self, name: str, kernel: Kernel) -> bytes:
        with no_fork:
            from lushan.cpu import llvm
        compiled = llvm.compile_object(kernel.emit(name, self._target), self._target)
        linked = link(compiled, name) if self._maps else None
        data = _OBJECT + compiled if linked is None else _LINKED + linked
        self._objects.put(name, data)
        return data

    def _key(self, kernel: Kernel) -> str:
        """Return the name of a kernel's function and file: a hash of all its code depends on."""
        kind = type(kernel)
        name = f"{kind.__module__}.{kind.__qualname__}"
        version = llvmlite.__version__  # which says that of LLVM
        parts = (name, repr(kernel), repr(self._target), version, source_hash("cpu"))
        return "k" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


@cache
def code_store(target: Target) -> CodeStore:
    """Return this process's store for ``target``."""
    return CodeStore(target, ObjectCache(cache_folder()))
