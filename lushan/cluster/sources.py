"""What the words SOURCE… of a batch stand for: folders, globs, buckets, columns of Parquet files.

``FILE.parquet:COLUMN`` names the pictures in a column, as paths and addresses (text) or as the
bytes of files; with ``column`` every word names Parquet files. Folders and buckets are searched as
``lushan classify`` searches folders. A listing may have any number of rows: it is a stream.

A picture that several words name is listed once. The rows of a Parquet file are taken as they
are: what stands there twice was meant twice.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pyarrow import fs

from lushan.cluster.entries import Entry, files_table, rows_table
from lushan.cluster.parquet_column import column_type, open_parquet, values
from lushan.cluster.storage import (
    FAILURES,
    file_system,
    is_address,
    reason_of,
    split_address,
)
from lushan.errors import PictureError, UsageError
from lushan.image.files import SUFFIXES, find_pictures, is_file

_COLUMN = re.compile(r"(?P<files>.+\.(?:parquet|pq)):(?P<column>[^/:]+)", re.IGNORECASE)
_AT_ONCE = 10_000  # entries that become a table

File = tuple[str | None, bytes]  # what finds the bucket, None on this machine; the path there


class Stretch(NamedTuple):
    """Pictures that follow one another; ``whole`` ones are best read in one go."""

    entries: Any  # a table, entries.SCHEMA
    whole: bool


def list_pictures(words: Sequence[str], column: str | None = None) -> Iterator[Stretch]:
    """Yield where all pictures lie that ``words`` name, in order; folders and globs sorted.

    Raises UsageError for a word that names no picture, or nothing that can be listed.
    """
    once = _once() if len(words) > 1 else None
    for word in words:
        files, of = _split_column(word, column)
        stretches = (
            _in_files(filter(once, _pictures(word))) if of is None else _in_columns(files, of)
        )
        listed = 0
        for stretch in stretches:
            listed += len(stretch.entries)
            yield stretch
        if not listed and (of is not None or not any(True for _ in _pictures(word))):
            raise UsageError("{source}: no pictures there", source=word)


def _split_column(word: str, column: str | None) -> tuple[str, str | None]:
    """Return a word as (files, the column of theirs that has the pictures)."""
    match = _COLUMN.fullmatch(word)
    if column is not None:
        return word, column
    if match is None or os.path.lexists(word):
        return word, None
    return match["files"], match["column"]


def _once() -> Callable[[File], bool]:
    """Return a function that is true when it meets a file for the first time."""
    seen: set[bytes] = set()

    def is_new(file: File) -> bool:
        # Sixteen bytes for each: paths are longer, and there may be millions.
        system, location = file
        path = os.path.realpath(location) if system is None else location
        key = hashlib.blake2b(repr((system, path)).encode(), digest_size=16).digest()
        if key in seen:
            return False
        seen.add(key)
        return True

    return is_new


def _in_files(files: Iterable[File]) -> Iterator[Stretch]:
    rest = iter(files)
    while some := list(islice(rest, _AT_ONCE)):
        yield Stretch(files_table(some), whole=False)


def _in_columns(word: str, column: str) -> Iterator[Stretch]:
    """Yield the pictures in a column of each of the Parquet files that ``word`` names."""
    for system, location in _find(word, frozenset({".parquet", ".pq"})):
        file = Entry(system, location)
        with open_parquet(file) as opened:
            if column_type(opened, file, column) == "bytes":
                start = 0
                for index in range(opened.metadata.num_row_groups):
                    stop = start + opened.metadata.row_group(index).num_rows
                    yield Stretch(rows_table(system, location, column, start, stop), whole=True)
                    start = stop
            else:
                yield from _in_files(_paths_in(opened, column))


def _paths_in(opened: Any, column: str) -> Iterator[File]:
    """Yield the files whose paths and addresses stand in a column; a null is an empty path."""
    for array in values(opened, column, None, _AT_ONCE):
        yield from (_file(path or "") for path in array.to_pylist())


def _file(path: str) -> File:
    if is_address(path):
        system, below = split_address(path)
        return system, below.encode()
    return None, os.fsencode(path)


def _pictures(word: str) -> Iterator[File]:
    return _find(word, SUFFIXES)


def _find(word: str, suffixes: frozenset[str]) -> Iterator[File]:
    """Yield the files that one word names: itself, or those in it that have one of ``suffixes``."""
    if is_address(word):
        yield from _find_in_bucket(word, suffixes)
    elif os.path.isdir(word):
        unreadable: list[PictureError] = []
        for path in find_pictures(Path(word), suffixes=suffixes, on_error=unreadable.append):
            yield None, os.fsencode(path)
        # A folder that cannot be read becomes a row that says so: the rest of an archive goes on.
        yield from ((None, os.fsencode(str(error.values["source"]))) for error in unreadable)
    elif not os.path.lexists(word) and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        yield from ((None, os.fsencode(match)) for match in filter(is_file, matches))
    elif os.path.lexists(word):
        yield None, os.fsencode(word)
    else:
        raise UsageError("{source}: there is no such file or folder", source=word)


def _find_in_bucket(word: str, suffixes: frozenset[str]) -> Iterator[File]:
    base, below = split_address(word)
    system, root = file_system(base)
    path = f"{root}/{below}".rstrip("/") or "/"
    try:
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            yield base, below.encode()
            return
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
    except FAILURES as error:
        raise UsageError(
            "{source}: cannot be read ({reason})", source=word, reason=reason_of(error)
        ) from None
    inside = len(path.rstrip("/")) + 1
    for info in sorted(found, key=lambda info: str(info.path)):
        parts = PurePosixPath(info.path[inside:])
        hidden = any(part.startswith(".") for part in parts.parts)
        if info.type == fs.FileType.File and not hidden and parts.suffix.lower() in suffixes:
            yield base, info.path[len(root) :].lstrip("/").encode()
