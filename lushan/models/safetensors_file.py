"""Reading and writing ``.safetensors`` through the library of that name.

The library checks the header against the file. What is added here: bfloat16, which NumPy does
not have, errors that name the file, and writing through a temporary file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from lushan.errors import ModelError
from lushan.models.bfloat16 import widen_bfloat16
from lushan.text import printable

_READABLE = ("F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")


def read_safetensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return name -> array, each its own copy; bfloat16 becomes float32. Raises ModelError."""
    source = str(path)
    tensors: dict[str, NDArray[np.generic]] = {}
    wide: list[str] = []
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                element = file.get_slice(name).get_dtype()
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


def _read_bfloat16(path: Path, names: list[str]) -> dict[str, NDArray[np.generic]]:
    """Return the named tensors as float32; the library hands their bytes over only all at once."""
    result: dict[str, NDArray[np.generic]] = {}
    wanted = set(names)
    for name, tensor in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        if name in wanted:
            bits = np.frombuffer(tensor["data"], "<u2")
            result[name] = widen_bfloat16(bits).reshape(tensor["shape"])
    return result


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Write ``tensors`` to ``path``, on disk when this returns. Raises OSError."""
    # The library writes memory as it lies, and timm wants to know whose layout it is.
    plain = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    try:
        safetensors.numpy.save_file(plain, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:  # the disk is full, or may not be written
        raise OSError(str(error)) from error
    flush_file(path)


def flush_file(path: Path) -> None:
    """Wait until the contents of a file are on disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
