"""Reading and writing ``.safetensors`` through the library of that name.

The library checks the header against the file. What is added here: bfloat16, which NumPy does
not have, errors that name the file, and writing through a temporary file.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from lushan.atomic_file import flush_file
from lushan.errors import ModelError
from lushan.graph.weights import LazyWeights
from lushan.models.bfloat16 import widen_bfloat16
from lushan.text import printable

LARGE_ELEMENTS = 16 * 2**10  # of these a network has a few dozen, and they are nearly all of it
_LARGE_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1"}  # that are left in the file until asked for
_SETTLED_SECONDS = 3  # the coarsest file systems count two by two
_READABLE = ("F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")


def read_safetensors(
    path: Path, *, skip: Callable[[str, Sequence[int]], bool] = lambda element, shape: False
) -> dict[str, NDArray[np.generic]]:
    """Return name -> array, each its own copy; bfloat16 becomes float32. Raises ModelError.

    ``skip`` says of an element type and a shape whether to leave that tensor out.
    """
    source = str(path)
    tensors: dict[str, NDArray[np.generic]] = {}
    wide: list[str] = []
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                part = file.get_slice(name)
                element = part.get_dtype()
                if skip(element, part.get_shape()):
                    continue
                if element == "BF16":
                    wide.append(name)
                elif element in _READABLE:
                    tensors[name] = file.get_tensor(name)
                else:
                    raise ModelError(
                        "{source}: tensor {name} has elements of type {element}, which cannot be "
                        "read; expected float16, bfloat16, float32 or float64",
                        source=source,
                        name=printable(name),
                        element=element,
                    )
        if wide:
            tensors.update(_read_bfloat16(path, wide))
    except (safetensors.SafetensorError, OSError, ValueError, OverflowError) as error:
        raise ModelError(
            "{source}: the safetensors file cannot be read: {reason}",
            source=source,
            reason=printable(str(error), 200),
        ) from None
    return tensors


def open_safetensors(path: Path) -> LazyWeights:
    """Return the tensors of a file; large ones are read each time they are asked for.

    The file stays open, so that a file put in its place meanwhile is not read by mistake. Small
    tensors and those of other types than float32, float16 and int8 are read at once. Raises
    ModelError.
    """
    before = _identity(path.stat())
    tensors = read_safetensors(path, skip=_is_large)
    file = path.open("rb")
    if _identity(os.fstat(file.fileno())) != before:  # another one was put there meanwhile
        file.close()
        return open_safetensors(path)
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    start = file.tell()
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    getters: dict[str, Callable[[], NDArray[np.generic]]] = {
        name: partial(_same, tensor) for name, tensor in tensors.items()
    }
    lock = threading.Lock()
    for name, entry in header.items():
        if name not in tensors and name != "__metadata__":
            shapes[name] = tuple(entry["shape"])
            place = start + entry["data_offsets"][0]
            dtype = np.dtype(_LARGE_TYPES[entry["dtype"]])
            getters[name] = partial(_read_at, file, lock, place, dtype, shapes[name], str(path))
    weights = LazyWeights(shapes, getters, origin=_origin(file))
    weakref.finalize(weights, file.close)  # when nobody can ask any more
    return weights


def _origin(file: BinaryIO) -> str | None:
    """Return what tells the contents of a file from any other, None if it cannot be told yet.

    A file may change again within the moment that the clock of its file system counts in.
    """
    status = os.fstat(file.fileno())
    if time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED_SECONDS:
        return None
    return repr((os.path.realpath(file.name), *_identity(status)))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells a state of a file from another one, as far as its system counts time."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _is_large(element: str, shape: Sequence[int]) -> bool:
    return element in _LARGE_TYPES and math.prod(shape) >= LARGE_ELEMENTS


def _same(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    return tensor


def _read_at(
    file: BinaryIO,
    lock: threading.Lock,
    place: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    source: str,
) -> NDArray[np.generic]:
    """Read one tensor; not through a memory map, whose pages would stay with the process."""
    tensor = np.empty(shape, dtype)
    memory = tensor.reshape(-1).view(np.uint8).data
    size = 0
    try:
        while size < tensor.nbytes:  # the system reads at most 2 GiB at a time, or less
            more = _read_some(file, lock, place + size, memory[size:])
            if not more:
                break
            size += more
    except OSError as error:
        raise ModelError(
            "{source}: cannot be read: {reason}", source=source, reason=error.strerror or error
        ) from None
    if size != tensor.nbytes:
        raise ModelError(
            "{source}: the file ends too early: {size} of {expected} bytes; get it again",
            source=source,
            size=size,
            expected=tensor.nbytes,
        )
    return tensor


def _read_some(file: BinaryIO, lock: threading.Lock, place: int, memory: memoryview) -> int:
    """Read from ``place`` on, and return how many bytes; none at the end of the file."""
    if hasattr(os, "preadv"):  # the position of a file is shared, even with a child after a fork
        return os.preadv(file.fileno(), [memory], place)
    with lock:
        file.seek(place)
        size: int = file.readinto(memory)  # type: ignore[attr-defined]
        return size


def _read_bfloat16(path: Path, names: list[str]) -> dict[str, NDArray[np.generic]]:
    """Return the named tensors as float32; the library hands their bytes over only all at once."""
    result: dict[str, NDArray[np.generic]] = {}
    wanted = set(names)
    for name, tensor in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        if name in wanted:
            bits = np.frombuffer(tensor["data"], "<u2")
            result[name] = widen_bfloat16(bits).reshape(tensor["shape"])
    return result


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that a file has beside its tensors. Raises ModelError."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            "{source}: the safetensors file cannot be read: {reason}",
            source=str(path),
            reason=printable(str(error), 200),
        ) from None


def write_safetensors(
    path: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``tensors`` and texts to ``path``, on disk when this returns. Raises OSError."""
    # The library writes memory as it lies, and timm wants to know whose layout it is.
    plain = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    try:
        safetensors.numpy.save_file(plain, path, metadata={"format": "pt", **(metadata or {})})
    except safetensors.SafetensorError as error:  # the disk is full, or may not be written
        raise OSError(str(error)) from error
    flush_file(path)
