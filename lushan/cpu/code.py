"""From specifications of kernels to addresses of machine code, compiled at most once.

A process keeps the code of every kernel it has needed; all programs share it. What is new is read
from the object cache, or compiled and put there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from functools import cache

from lushan.cpu import llvm
from lushan.cpu.cache import ObjectCache, cache_folder, generator_hash
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel


class CodeStore:
    """The compiled kernels of one target in this process; safe to use from several threads."""

    def __init__(self, target: Target, objects: ObjectCache) -> None:
        self._target = target
        self._objects = objects
        self._addresses: dict[Kernel, int] = {}
        self._loaded: list[llvm.Code] = []
        self._lock = threading.Lock()

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
                names = {kernel: self._key(kernel) for kernel in missing}
                objects = {name: self._object(kernel, name) for kernel, name in names.items()}
                code = llvm.Code(self._target, objects)
                self._loaded.append(code)
                for kernel, name in names.items():
                    self._addresses[kernel] = code.address(name)
            return {kernel: self._addresses[kernel] for kernel in wanted}

    def _object(self, kernel: Kernel, name: str) -> bytes:
        data = self._objects.get(name)
        if data is None:
            data = llvm.compile_object(kernel.emit(name, self._target), self._target)
            self._objects.put(name, data)
        return data

    def _key(self, kernel: Kernel) -> str:
        """Return the name of a kernel's function and file: a hash of all its code depends on."""
        kind = type(kernel)
        name = f"{kind.__module__}.{kind.__qualname__}"
        parts = (name, repr(kernel), repr(self._target), llvm.version(), generator_hash())
        return "k" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


@cache
def code_store(target: Target) -> CodeStore:
    """Return this process's store for ``target``."""
    return CodeStore(target, ObjectCache(cache_folder()))
