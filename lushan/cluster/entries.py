"""What a job is to recognise: a table with a row for each picture that says where it lies.

A hundred million rows must be cheap to write down, to send and to cut, so they are Arrow tables.
A picture is a file, or a value in a column of a Parquet file; the file lies on this machine, or in
a bucket (``storage``). Paths are bytes, because those of Linux need not be text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from lushan.cluster.storage import address_of
from lushan.image.sources import source_name

SCHEMA = pa.schema(
    [
        ("system", pa.dictionary(pa.int32(), pa.string())),  # what finds the bucket; null: here
        ("location", pa.dictionary(pa.int32(), pa.binary())),  # the path there
        ("column", pa.dictionary(pa.int32(), pa.string())),  # of a Parquet file; null: no such
        ("row", pa.int64()),  # in that file, from 0
    ]
)


class Entry(NamedTuple):
    """Where one picture lies; ``row`` is None for a file of its own."""

    system: str | None
    location: bytes
    column: str | None = None
    row: int | None = None

    @property
    def file(self) -> str:
        """The path or address of the file, as messages call it."""
        if self.system is None:
            return source_name(os.fsdecode(self.location))
        return address_of(self.system, source_name(os.fsdecode(self.location)))

    @property
    def name(self) -> str:
        """What the picture is called: its path, or ``FILE:COLUMN[ROW]``."""
        return self.file if self.row is None else f"{self.file}:{self.column}[{self.row}]"


def files_table(files: list[tuple[str | None, bytes]]) -> Any:
    """Return the entries of pictures that are files: (system, location) of each."""
    systems, locations = zip(*files, strict=True) if files else ((), ())
    nothing = pa.nulls(len(files))
    return _table([pa.array(systems, pa.string()), pa.array(locations), nothing, nothing])


def rows_table(system: str | None, location: bytes, column: str, start: int, stop: int) -> Any:
    """Return the entries of rows ``start`` to ``stop`` (exclusive) of a Parquet file's column."""

    def same(value: object, kind: Any) -> Any:
        place = pa.scalar(None if value is None else 0, pa.int32())
        values = pa.array([] if value is None else [value], kind)  # a null there joins no other
        return pa.DictionaryArray.from_arrays(pa.repeat(place, count), values)

    count = stop - start
    rows = pa.array(range(start, stop), pa.int64())
    parts = same(system, pa.string()), same(location, pa.binary()), same(column, pa.string())
    return _table([*parts, rows])


def each(entries: Any) -> Iterator[Entry]:
    """Yield the rows of a table of entries."""
    for batch in entries.to_batches(max_chunksize=1024):
        columns = (batch.column(index).to_pylist() for index in range(batch.num_columns))
        yield from map(Entry, *columns)


def _table(columns: list[Any]) -> Any:
    arrays = (
        column
        if column.type == kind
        else column.cast(kind.value_type).dictionary_encode()
        if pa.types.is_dictionary(kind)
        else column.cast(kind)
        for column, kind in zip(columns, SCHEMA.types, strict=True)
    )
    return pa.Table.from_arrays(list(arrays), schema=SCHEMA)
