"""Where a picture lies → what ``Recognizer.classify_many`` reads it from.

A file of this machine stays a path, as on the command line. What else there is becomes bytes with a
name, read when a decoding thread gets there (buckets), or in one go through a Parquet file by
the thread that reads ahead. Whatever cannot be had fails in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

from lushan.cluster.entries import Entry, each
from lushan.cluster.parquet_column import read_rows
from lushan.cluster.storage import FAILURES, file_system, reason_of
from lushan.errors import LushanError, PictureError
from lushan.image.sources import NamedBytes, read_all

Opener: TypeAlias = "str | Callable[[], NamedBytes]"


def open_all(entries: Any) -> Iterator[Opener]:
    """Yield a path, or a function that gives the bytes of a picture, for each of a table."""

    def run_of_rows(numbered: tuple[int, Entry]) -> object:
        """Return what the rows have in common that one pass through a file reads."""
        number, entry = numbered
        return None if entry.row is None else (*entry[:3], entry.row - number)

    for run, group in groupby(enumerate(each(entries)), key=run_of_rows):
        if run is None:
            yield from (_open_file(entry) for _, entry in group)
        else:
            yield from _open_rows([entry for _, entry in group])


def _open_file(entry: Entry) -> Opener:
    return os.fsdecode(entry.location) if entry.system is None else partial(_fetch, entry)


def _fetch(entry: Entry) -> NamedBytes:
    """Return the bytes of a file in a bucket; raises PictureError if they cannot be had."""
    assert entry.system is not None
    system, root = file_system(entry.system)
    try:
        with system.open_input_stream(
            f"{root}/{os.fsdecode(entry.location)}", compression=None
        ) as file:
            return NamedBytes(read_all(file, entry.name), entry.name)
    except FileNotFoundError as error:
        raise PictureError("{source}: there is no such file", source=entry.name) from error
    except FAILURES as error:
        raise PictureError(
            "{source}: cannot be read ({reason})", source=entry.name, reason=reason_of(error)
        ) from error


def _open_rows(rows: list[Entry]) -> Iterator[Opener]:
    """Yield an opener for each of some rows of one column, which follow one another."""
    first = rows[0].row
    assert first is not None
    left = iter(rows)
    problem: LushanError = PictureError(
        "{source}: the file ends before this row", source=rows[0].file
    )
    try:
        # The values first: where they end, no row is taken that would then be missing.
        for value, entry in zip(read_rows(rows[0], first, first + len(rows)), left, strict=False):
            if value is None:
                yield partial(_fail, PictureError("{source}: the row is empty", source=entry.name))
            else:
                yield partial(NamedBytes, value, entry.name)
    except LushanError as error:
        problem = error
    yield from (partial(_fail, problem) for _ in left)


def _fail(error: LushanError) -> NamedBytes:
    raise error
