"""Runs tasks that were compiled for 64-bit ARM on a machine that is none, under an emulator.

Kernels and driver are linked with a small C program, which gets the memory, the weights and the
table of tasks from a file. It needs Debian's qemu-user and gcc-aarch64-linux-gnu, or the like.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lushan.cpu import llvm
from lushan.cpu.driver import Driver
from lushan.cpu.emit import ARENA
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Kernel, Place, Task
from support.native_tasks import Memory

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SOURCE = Path(__file__).with_suffix(".c")
SECONDS = 120  # no run takes as long: it hangs

needs_emulator = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"{COMPILER} and {EMULATOR} are not both installed",
)


@cache
def object_file(kernel: Kernel | Driver, name: str, target: Target) -> bytes:
    """Return ``kernel`` as an object file with one function, called ``name``."""
    return llvm.compile_object(kernel.emit(name, target), target)


def run_emulated(
    tasks: Sequence[Task], memory: Memory, target: Target, *, threads: int = 2
) -> None:
    """Run tasks, each after all before it, on so many threads; ``memory`` is changed in place."""
    kernels = list(dict.fromkeys(task.kernel for task in tasks))
    with tempfile.TemporaryDirectory(prefix="lushan-emulated-") as name:
        folder = Path(name)
        program = _link(folder, kernels, target)
        image, result = folder / "image", folder / "result"
        image.write_bytes(_image(tasks, kernels, memory, threads))
        subprocess.run([EMULATOR, program, image, result], check=True, timeout=SECONDS)
        memory.bits = np.frombuffer(result.read_bytes(), np.uint32).copy()


def _link(folder: Path, kernels: Sequence[Kernel], target: Target) -> Path:
    names = [f"kernel{number}" for number in range(len(kernels))]
    parts = {"driver": object_file(Driver(), "driver", target)}
    for name, kernel in zip(names, kernels, strict=True):
        parts[name] = object_file(kernel, name, target)
    for name, data in parts.items():
        (folder / f"{name}.o").write_bytes(data)
    declared = "".join(f"extern void {name}();\n" for name in names)
    table = folder / "table.c"
    table.write_text(f"{declared}void (*const kernels[])() = {{{', '.join(names)}}};\n")
    program = folder / "program"
    objects = [folder / f"{name}.o" for name in parts]
    command = [COMPILER, "-static", "-O1", "-pthread", "-o", program, SOURCE, table, *objects]
    subprocess.run(command, check=True)
    return program


def _image(tasks: Sequence[Task], kernels: Sequence[Kernel], memory: Memory, threads: int) -> bytes:
    """Return what the C program reads; ``HEADER`` there names the parts."""
    weights: list[bytes] = []
    starts: dict[tuple[int, int], int] = {}  # by address and size: tasks may share an array
    arguments: list[int] = []
    addresses: list[int] = []
    rows = []
    for number, task in enumerate(tasks):
        first = len(arguments)
        rows.append([kernels.index(task.kernel), first, task.chunks, int(number > 0)])
        arguments += [0] * (max(task.arguments, default=0) + 2)
        for slot, value in task.arguments.items():
            place = first + slot
            if isinstance(value, Place):
                offset = FLOAT * memory.places[value.value] + value.offset
                arguments[place : place + 2] = ARENA, offset
            elif isinstance(value, np.ndarray):
                addresses.append(place)
                key = (value.ctypes.data, value.nbytes)
                if key not in starts:
                    starts[key] = sum(map(len, weights))
                    weights.append(_padded(value.tobytes()))
                arguments[place] = starts[key]
            else:
                arguments[place] = value
    scratch = max((task.scratch for task in tasks), default=0)
    packed = b"".join(weights)
    counts = [threads, memory.bits.nbytes, scratch, len(packed), len(arguments), len(addresses)]
    return b"".join(
        [
            _integers([*counts, len(rows)]),
            memory.bits.tobytes(),
            packed,
            _integers(arguments),
            _integers(addresses),
            _integers(number for row in rows for number in row),
        ]
    )


def _padded(data: bytes) -> bytes:
    """Return ``data`` and zeros up to a multiple of 64 bytes: arrays start where lines do."""
    return data + bytes(-len(data) % 64)


def _integers(numbers: Iterable[int]) -> bytes:
    return np.array(list(numbers), np.int64).tobytes()
