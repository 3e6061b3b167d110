"""The pictures in a column of a Parquet file, read row by row and never all at once.

A column may lie within another (``image.bytes``), as data sets of Hugging Face have it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lushan.cluster.entries import Entry
from lushan.cluster.storage import FAILURES, file_system, reason_of
from lushan.errors import UsageError
from lushan.text import first_few

_AT_ONCE = 32  # pictures read from a column at a time


@contextmanager
def open_parquet(file: Entry) -> Iterator[Any]:
    """Yield the Parquet file of an entry. Raises UsageError where it is none, or is damaged."""
    try:
        if file.system is None:
            source = pa.OSFile(os.fsdecode(file.location), "rb")
        else:
            system, root = file_system(file.system)
            source = system.open_input_file(f"{root}/{os.fsdecode(file.location)}")
        with source, pq.ParquetFile(source, pre_buffer=False) as opened:
            yield opened
    except FAILURES as error:
        raise UsageError(
            "{source}: cannot be read as a Parquet file ({reason})",
            source=file.file,
            reason=reason_of(error),
        ) from None


def column_type(opened: Any, file: Entry, column: str) -> str:
    """Return what pictures are in a column: "bytes" or "paths". Raises UsageError for neither."""
    schema = opened.schema_arrow
    kind: Any = None
    if column in schema.names:
        kind = schema.field(column).type
    else:
        kind = pa.struct(schema)
        for name in column.split("."):
            known = pa.types.is_struct(kind) and kind.get_field_index(name) >= 0
            kind = kind.field(name).type if known else None
            if kind is None:
                raise UsageError(
                    "{source}: has no column {column!r}; its columns are {known}",
                    source=file.file,
                    column=column,
                    known=first_few(schema.names),
                )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "paths"
    raise UsageError(
        "{source}: the column {column!r} has values of type {kind}; pictures are bytes (binary), "
        "or paths (string)",
        source=file.file,
        column=column,
        kind=str(kind),
    )


def values(opened: Any, column: str, groups: Sequence[int] | None, at_once: int) -> Iterator[Any]:
    """Yield the values of a column in order, as arrays of at most ``at_once``."""
    inner = [] if column in opened.schema_arrow.names else column.split(".")[1:]
    for batch in opened.iter_batches(batch_size=at_once, row_groups=groups, columns=[column]):
        array = batch.column(0)
        for name in inner:
            array = pc.struct_field(array, name)
        yield array


def read_rows(file: Entry, start: int, stop: int) -> Iterator[bytes | None]:
    """Yield the values of rows ``start`` to ``stop`` (exclusive) of the column of an entry.

    Raises UsageError where the file cannot be read, which may show between two rows.
    """
    assert file.column is not None
    with open_parquet(file) as opened:
        column_type(opened, file, file.column)
        first, before = 0, 0
        sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
        while first < len(sizes) and before + sizes[first] <= start:
            before += sizes[first]
            first += 1
        row = before
        for array in values(opened, file.column, range(first, len(sizes)), _AT_ONCE):
            if row + len(array) > start:
                for value in array[max(0, start - row) : stop - row]:
                    yield value.as_py()
            row += len(array)
            if row >= stop:
                return
