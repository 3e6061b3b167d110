"""The only importer of ``llvmlite.binding``: from the text of a kernel to native code.

What differs between versions of LLVM is kept here. llvmlite holds one lock around every LLVM call,
so threads do not compile in parallel. Another one is held here around all calls that belong
together, until what they needed is freed: a fork waits for it, so a child may call LLVM too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import llvmlite.binding as llvm

from lushan.cpu.locks import no_fork
from lushan.cpu.target import Target

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _alone(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return ``function`` for one thread at a time, and not while the process is forked."""

    @wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with no_fork:
            return function(*args, **kwargs)

    return locked


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for inline assembly


@cache
def _initialize_all() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@_alone
def host() -> tuple[str, str, frozenset[str]]:
    """Return this machine's processor name, triple and feature names, as LLVM calls them."""
    _initialize()
    features = llvm.get_host_cpu_features()
    return (
        llvm.get_host_cpu_name(),
        llvm.get_process_triple(),
        frozenset(name for name, there in features.items() if there),
    )


def _machine(target: Target) -> llvm.TargetMachine:
    _initialize()
    if target.triple != llvm.get_process_triple():
        _initialize_all()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
    )


@_alone
def compile_object(text: str, target: Target) -> bytes:
    """Compile LLVM IR text to an object file, for this machine or another one."""
    machine = _machine(target)
    module = llvm.parse_assembly(text)
    module.verify()
    code: bytes = machine.emit_object(module)
    return code


@_alone
def assembly(text: str, target: Target) -> str:
    """Return the assembly of LLVM IR text, for reading and counting."""
    listing: str = _machine(target).emit_assembly(llvm.parse_assembly(text))
    return listing


class Code:
    """Object files loaded into this process; addresses live as long as this object."""

    @_alone
    def __init__(self, target: Target, objects: Mapping[str, bytes]) -> None:
        # MCJIT takes ownership of the target machine: one for each engine. llvmlite's memory
        # manager keeps code near its constants: too far apart (2 GiB), LLVM ends the process.
        self._engine = llvm.create_mcjit_compiler(
            llvm.parse_assembly(""), _machine(target), use_lmm=True
        )
        for data in objects.values():
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    @_alone
    def address(self, name: str) -> int:
        """Return the address of the function ``name``."""
        found: int = self._engine.get_function_address(name)
        if not found:
            raise KeyError(name)
        return found
