"""Printing answers about pictures: text for people, json, jsonl and csv for programs."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from typing import Any, Protocol, TextIO

from lushan.cli.streams import one_line, to_json
from lushan.errors import LushanError
from lushan.recognizer import Predictions


class RecordWriter(Protocol):
    """Prints one answer at a time, so that a long run shows its results as they come."""

    def answer(self, source: str, predictions: Predictions) -> None:
        """Print the answer for one picture."""

    def failure(self, source: str, error: LushanError) -> None:
        """Print what the format has to say of a picture that failed; stderr has it too."""

    def close(self) -> None:
        """Print what ends the output."""


def to_record(source: str, predictions: Predictions) -> dict[str, Any]:
    """Return the json record of one answer."""
    return {"source": source, **predictions.to_dict()}


def make_writer(format_: str, lang: str) -> RecordWriter:
    """Return the writer of ``format_``: text, json, jsonl or csv.

    It keeps to what stdout is now, whatever a progress bar may put in its place.
    """
    if format_ == "csv":
        return _Csv(sys.stdout)
    if format_ == "text":
        return _Text(sys.stdout)
    return _Json(sys.stdout, lang, lines=format_ == "jsonl")


class _Text:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def answer(self, source: str, predictions: Predictions) -> None:
        print(one_line(source), file=self._stream)
        for prediction in predictions:
            percent = f"{100 * prediction.probability:6.2f} %"
            name = prediction.description
            label = "" if prediction.label == name else f"  ({prediction.label})"
            line = f"{prediction.rank:>4}  {percent}  {one_line(name + label)}"
            print(line, file=self._stream)

    def failure(self, source: str, error: LushanError) -> None:
        pass

    def close(self) -> None:
        pass


class _Csv:
    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(("source", "rank", "index", "label", "description", "probability"))

    def answer(self, source: str, predictions: Predictions) -> None:
        for prediction in predictions:
            self._writer.writerow((source, *asdict(prediction).values()))

    def failure(self, source: str, error: LushanError) -> None:
        pass

    def close(self) -> None:
        pass


class _Json:
    """A json array, or with ``lines`` one record a line."""

    def __init__(self, stream: TextIO, lang: str, *, lines: bool) -> None:
        self._stream = stream
        self._lang = lang
        self._lines = lines
        self._first = True

    def answer(self, source: str, predictions: Predictions) -> None:
        self._write(to_record(source, predictions))

    def failure(self, source: str, error: LushanError) -> None:
        self._write({"source": source, "error": error.message(self._lang)})

    def close(self) -> None:
        if not self._lines:
            print("[]" if self._first else "\n]", file=self._stream)

    def _write(self, record: dict[str, Any]) -> None:
        text = to_json(record)
        if self._lines:
            print(text, flush=True, file=self._stream)
        else:
            print("[\n" if self._first else ",\n", text, sep="", end="", file=self._stream)
        self._first = False
