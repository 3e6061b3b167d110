"""The record of a run's numbers: metrics.jsonl, and the same for TensorBoard.

A record has a ``kind``: "step" (every so many steps: loss, learning rate, momentum, norms) or
"epoch". Numbers that depend on the machine, not on the run, are those of time.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lushan.atomic_file import replacing
from lushan.errors import TrainingError

_UNDRAWN = ("kind", "epoch", "step")


class MetricsLog:
    """Appends records to a file and, where tensorboardX is installed, to a folder of events.

    ``step`` is where the run stands: records of later steps, of a run that was killed, are taken
    away. ``records`` are all that are kept.
    """

    def __init__(self, path: Path, tensorboard: Path, *, step: int) -> None:
        self._path = path
        self.records = [entry for entry in read_metrics(path) if entry["step"] <= step]
        lines = "".join(f"{json.dumps(entry)}\n" for entry in self.records)
        with _writing(path):
            with replacing(path) as temporary:
                temporary.write_text(lines, encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        with _writing(tensorboard):
            self._events = _open_events(tensorboard, step)
        self._folder = tensorboard

    @property
    def has_tensorboard(self) -> bool:
        """Whether events for TensorBoard are written."""
        return self._events is not None

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record; a run's step counts from 1 here: so many steps are done."""
        self.records.append(dict(record))
        with _writing(self._path):
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        if self._events is not None:
            with _writing(self._folder):
                self._events.add(record)

    def sync(self) -> None:
        """Wait until the records are on disk: before the checkpoint that stands for them."""
        with _writing(self._path):
            os.fsync(self._file.fileno())
        if self._events is not None:
            with _writing(self._folder):
                self._events.sync()

    def close(self) -> None:
        """Close the files."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._events is not None:
            with contextlib.suppress(OSError):
                self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, [] where there is none; a line cut short ends it."""
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                record["step"] + 0
            except (ValueError, TypeError, KeyError):
                break
            records.append(record)
    return records


class _Events:
    """A file of events for TensorBoard.

    tensorboardX's ``SummaryWriter`` writes in a thread of its own: on a full disk that thread ends,
    and whoever adds to its queue then waits for ever. Its parts write at once, and say what fails.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import record_writer, summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event, self._scalar = Event, summary.scalar
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files with such names, in their order.
        name = f"events.out.tfevents.{time.time():.0f}.{step:09}"
        self._file = record_writer.RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        if step:  # what a killed run wrote of later steps does not count
            self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **event: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), **event).SerializeToString())

    def add(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if name not in _UNDRAWN and value is not None:
                summary = self._scalar(f"{record['kind']}/{name}", value)
                self._write(step=record["step"], summary=summary)

    def sync(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _open_events(folder: Path, step: int) -> _Events | None:
    """Return a file of events that continues after ``step``, None without tensorboardX."""
    try:
        return _Events(folder, step)
    except ImportError:
        return None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            "{path}: the run cannot be written: {reason}; make room or another way, then "
            "continue with --resume: what was saved before is intact",
            path=str(path),
            reason=error.strerror or str(error),
        ) from None
