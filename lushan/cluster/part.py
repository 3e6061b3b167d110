"""One part of the answers: a table with a row for each picture, and its file.

A picture that could be read has ``predictions`` and ``input``, the report of how it was read; one
that could not has ``error``. A file of a part also carries what it belongs to and how many of its
pictures failed, so that its footer alone tells whether it is the part that is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lushan.cluster.entries import Entry
from lushan.errors import LushanError
from lushan.recognizer import Predictions

_PREDICTION = pa.struct(
    [
        ("rank", pa.int32()),
        ("index", pa.int32()),
        ("label", pa.string()),
        ("description", pa.string()),
        ("probability", pa.float64()),
    ]
)
_INPUT = pa.struct(
    [
        ("source", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("bits_per_channel", pa.int32()),
        ("orientation", pa.int32()),
        ("alpha_composited", pa.bool_()),
        ("frames", pa.int64()),
        ("frame", pa.int64()),
        ("color_profile", pa.string()),
        ("color_converted", pa.bool_()),
        ("ignored", pa.list_(pa.string())),
    ]
)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # what the picture is called
        ("row", pa.int64()),  # where it is a row of a Parquet file
        ("predictions", pa.list_(_PREDICTION)),
        ("input", _INPUT),
        ("error", pa.string()),
    ]
)
_JOB, _ERRORS = b"lushan.job", b"lushan.errors"


def to_table(
    entries: Sequence[Entry], answers: Sequence[Predictions | LushanError], lang: str
) -> Any:
    """Return a table, SCHEMA, of the answers to the pictures of ``entries``."""
    return pa.Table.from_pylist(
        [_row(entry, answer, lang) for entry, answer in zip(entries, answers, strict=True)],
        schema=SCHEMA,
    )


def _row(entry: Entry, answer: Predictions | LushanError, lang: str) -> dict[str, object]:
    row: dict[str, object] = {"path": entry.name, "row": entry.row}
    if isinstance(answer, LushanError):
        return {**row, "error": _text(answer.message(lang))}
    report = answer.report.to_dict()
    profile = report["color_profile"]
    return {
        **row,
        "predictions": [asdict(prediction) for prediction in answer],
        "input": {**report, "color_profile": profile and _text(str(profile))},
    }


def _text(text: str) -> str:
    """Return a text that may come from a broken file as one that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def count_errors(table: Any) -> int:
    """Return how many pictures of a part have failed."""
    return len(table) - int(table["error"].null_count)


def to_file(table: Any, job: str) -> bytes:
    """Return the Parquet file of a part that belongs to the job of that name."""
    about = {_JOB: job.encode(), _ERRORS: str(count_errors(table)).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(about), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def errors_in_file(file: Any, job: str, rows: int) -> int | None:
    """Return how many pictures of a part failed; None where the file is not that part, whole.

    ``file`` is open; ``rows`` is how many the part must have.
    """
    try:
        footer = pq.read_metadata(file)
        about = footer.metadata or {}
        if footer.num_rows == rows and about.get(_JOB) == job.encode():
            return int(about[_ERRORS])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        pass
    return None
