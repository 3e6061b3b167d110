"""Where the bytes of a picture come from: a path, bytes in memory, or an open file.

Whatever the caller hands over becomes a name for messages and a seekable binary file, so that
``decode`` has one kind of input. Addresses (``https://…``), globs and folders are the command
line's business and are not resolved here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from lushan.errors import PictureError, UsageError

MAX_STREAM_BYTES = 1 << 30
"""What cannot be rewound (a pipe, a socket, an open file) is held in memory, up to 1 GiB."""

_CHUNK = 1 << 20


class NamedBytes(BytesIO):
    """The bytes of a picture with the name that messages call it by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def source_name(source: object) -> str:
    """Return the name of ``source`` for messages: its path, its file name, or its kind in <>."""
    if isinstance(source, (str, os.PathLike)):
        # A name that is not valid text in the file system's encoding must still be printable.
        return os.fsdecode(source).encode("utf-8", "backslashreplace").decode()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else "<file>"


@contextmanager
def open_source(source: object, name: str) -> Iterator[BinaryIO]:
    """Yield ``source`` as a seekable binary file at its start; close only what was opened here.

    Raises ``PictureError`` when it cannot be read or is empty, ``UsageError`` when it is none of
    path, bytes and binary file object.
    """
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise PictureError("the path of a picture is empty")
        with _open_path(Path(os.fsdecode(source)), name) as file:
            yield _not_empty(file, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield _not_empty(BytesIO(bytes(source)), name)
    elif callable(getattr(source, "read", None)):
        # Read to the end even where it could be rewound: the caller's file stays the caller's,
        # and file objects differ in what their seek and fileno mean.
        yield _not_empty(BytesIO(_rewind_and_read(source, name)), name)
    else:
        raise UsageError(
            "{source}: cannot read a picture from {type}; give a path, bytes, a binary file, "
            "a PIL image or a uint8 array",
            source=name,
            type=type(source).__name__,
        )


@contextmanager
def _open_path(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise PictureError("{source}: there is no such file", source=name) from error
    except IsADirectoryError as error:
        raise PictureError("{source}: this is a folder, not a picture", source=name) from error
    except PermissionError as error:
        raise PictureError("{source}: no permission to read this file", source=name) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise _unreadable(name, error) from error
    with file:
        # A pipe, or a device that never ends, has a path too.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield file
        else:
            yield BytesIO(read_all(file, name))


def _rewind_and_read(file: Any, name: str) -> bytes:
    # A pipe does not rewind: what is left of it is the picture. A closed file fails in read.
    with suppress(AttributeError, OSError, ValueError):
        file.seek(0)
    return read_all(file, name)


def read_all(file: Any, name: str, limit: int = MAX_STREAM_BYTES) -> bytes:
    """Return the rest of ``file``; raise ``PictureError`` when that is over ``limit`` bytes."""
    content = bytearray()
    while True:
        try:
            chunk = file.read(_CHUNK)
        except Exception as error:  # file objects are anyone's code
            raise _unreadable(name, error) from error
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise UsageError(
                "{source}: reading gave {type}, not bytes; open the file in binary mode",
                source=name,
                type=type(chunk).__name__,
            )
        if not chunk:
            return bytes(content)
        content += chunk
        if len(content) > limit:
            raise PictureError(
                "{source}: more than {limit} bytes; give a smaller file",
                source=name,
                limit=limit,
            )


def _not_empty(file: BinaryIO, name: str) -> BinaryIO:
    try:
        first = file.read(1)
        file.seek(0)
    except OSError as error:
        raise _unreadable(name, error) from error
    if not first:
        raise PictureError("{source}: the file is empty", source=name)
    return file


def _unreadable(name: str, error: Exception) -> PictureError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return PictureError("{source}: cannot be read ({reason})", source=name, reason=reason)
