"""Files here and in buckets: one way to open, list and write them.

A place is a path of this machine, or an address that pyarrow's file systems know (``s3://``,
``gs://``, ``abfs://``, ``hdfs://``, ``file://``). An address is kept in two: what finds the file
system (``s3://bucket?region=…``), and the path below it, which is taken as it is, not unquoted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from lushan.atomic_file import replacing
from lushan.errors import UsageError

# What pyarrow raises where a file or a service does not do as it should.
FAILURES = (OSError, pa.ArrowException)

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<rest>[^?]*)")
_ASIDE = ".tmp"


def is_address(word: str) -> bool:
    """Return whether ``word`` is an address rather than a path."""
    return _ADDRESS.match(word) is not None


def split_address(address: str) -> tuple[str, str]:
    """Return an address as (what finds the file system, the path below it)."""
    match = _ADDRESS.match(address)
    assert match is not None
    query = address[match.end() :]
    return f"{match['scheme']}://{match['host'] or '/'}{query}", match["rest"].strip("/")


def address_of(base: str, path: str) -> str:
    """Return the address of the file at ``path`` for people: without the query."""
    stem = base.partition("?")[0]
    return stem + path if stem.endswith("/") else f"{stem}/{path}"


@lru_cache(maxsize=64)
def file_system(base: str) -> tuple[Any, str]:
    """Return the file system that ``base`` finds, and the root of its paths.

    Raises UsageError where pyarrow knows no such file system or cannot reach it.
    """
    try:
        system, root = fs.FileSystem.from_uri(base)
    except (ValueError, *FAILURES) as error:
        raise UsageError(
            "{address}: pyarrow cannot open this address ({reason}); s3://, gs://, abfs://, "
            "hdfs:// and file:// are known, other pictures must lie in files",
            address=base,
            reason=reason_of(error),
        ) from None
    return system, root.rstrip("/")


class Folder:
    """A folder of this machine or of a bucket, of which the files directly in it are used."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._path = None if is_address(place) else Path(place)
        if self._path is None:
            base, below = split_address(place)
            self._system, root = file_system(base)
            self._root = f"{root}/{below}".rstrip("/")

    def make(self) -> None:
        """Make the folder where there is none. Raises UsageError."""
        try:
            if self._path is not None:
                self._path.mkdir(parents=True, exist_ok=True)
            else:
                self._system.create_dir(self._root, recursive=True)
        except FAILURES as error:
            raise self._unusable(error) from error

    def names(self) -> list[str]:
        """Return the names of the files and folders in it. Raises UsageError."""
        try:
            if self._path is not None:
                return [path.name for path in self._path.iterdir()]
            selector = fs.FileSelector(self._root, allow_not_found=True)
            return [info.base_name for info in self._system.get_file_info(selector)]
        except FAILURES as error:
            raise self._unusable(error) from error

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """Yield the file called ``name``, to be read anywhere. Raises what pyarrow raises."""
        if self._path is not None:
            with pa.OSFile(os.fspath(self._path / name), "rb") as file:
                yield file
        else:
            with self._system.open_input_file(f"{self._root}/{name}") as file:
                yield file

    def write(self, name: str, content: bytes) -> None:
        """Write a file, which is there whole or not at all. Raises UsageError."""
        try:
            if self._path is not None:
                with replacing(self._path / name) as aside:
                    aside.write_bytes(content)
                return
            hidden = f"{self._root}/.{name}{_ASIDE}"
            with self._system.open_output_stream(hidden, compression=None) as file:
                file.write(content)
            self._system.move(hidden, f"{self._root}/{name}")
        except FAILURES as error:
            raise self._unusable(error) from error

    def sweep(self) -> None:
        """Delete what a writer that was killed left aside. Raises UsageError."""
        for name in self.names():
            if name.startswith(".") and name.endswith(_ASIDE):
                try:
                    if self._path is not None:
                        (self._path / name).unlink()
                    else:
                        self._system.delete_file(f"{self._root}/{name}")
                except FAILURES as error:
                    raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UsageError:
        return UsageError(
            "{place}: cannot be used as the folder of the answers ({reason})",
            place=self.place,
            reason=reason_of(error),
        )


def reason_of(error: Exception) -> str:
    """Return what went wrong with a file or a service, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())
