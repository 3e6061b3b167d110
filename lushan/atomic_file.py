"""Files that are there whole or not at all, whenever the process or the machine stops.

A file is written aside, under a hidden name in the same folder, flushed to disk, and renamed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_native_id


def aside(path: Path) -> Path:
    """Return the name under which this thread, and no other, writes what becomes ``path``."""
    return path.with_name(f".{path.name}.{get_native_id()}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; afterwards that file is ``path``, and on disk.

    Where the writing fails, ``path`` is as it was and nothing is left. Raises OSError.
    """
    temporary = aside(path)
    try:
        yield temporary
        flush_file(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    flush_folder(path.parent)


def flush_file(path: Path) -> None:
    """Wait until the contents of a file are on disk. Raises OSError."""
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
