"""The record of a run's numbers: metrics.jsonl, and the same for TensorBoard.

A record has a ``kind``: "step" (every so many steps: loss, learning rate, momentum, norms) or
"epoch". Numbers that depend on the machine, not on the run, are those of time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
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
        try:
            with replacing(path) as temporary:
                temporary.write_text(lines, encoding="utf-8")
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from None
        self._writer = _tensorboard_writer(tensorboard, step)

    @property
    def has_tensorboard(self) -> bool:
        """Whether events for TensorBoard are written."""
        return self._writer is not None

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record; a run's step counts from 1 here: so many steps are done."""
        self.records.append(dict(record))
        try:
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from None
        if self._writer is not None:
            for name, value in record.items():
                if name not in _UNDRAWN and value is not None:
                    self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def sync(self) -> None:
        """Wait until the records are on disk: before the checkpoint that stands for them."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from None
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._writer is not None:
            self._writer.close()


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


def _tensorboard_writer(folder: Path, step: int) -> Any:
    """Return a writer of events that continues after ``step``, None where it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _unwritable(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        "{path}: the run cannot be written: {reason}; make room or another way, then "
        "continue with --resume: the last checkpoint is intact",
        path=str(path),
        reason=error.strerror or str(error),
    )
