"""The folder of a run: everything to know of it, to continue it, and to use what it made.

    run.json            the settings, the seed, the data set, the versions: written first
    last.safetensors    the last checkpoint: all parameters, and where the run stood
    config.json, model.safetensors      the model: the folder is a model folder
    metrics.jsonl, tensorboard/         a record every so many steps, and one per epoch
    curves.svg, confusion.svg, report.html

Every file is written aside, flushed to disk and then renamed, so that it is there whole or not at
all, whenever the process ends. The metrics are the exception; lines beyond the checkpoint that a
run continues from are taken away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lushan.atomic_file import replacing
from lushan.errors import LushanError, ModelError, TrainingError, UsageError
from lushan.graph.executor import Array
from lushan.models.checkpoint import from_parameters
from lushan.models.config import ModelConfig
from lushan.models.model_folder import CONFIG, WEIGHTS, write_model_folder
from lushan.models.safetensors_file import (
    read_metadata,
    read_safetensors,
    write_safetensors,
)

RUN = "run.json"
CHECKPOINT = "last.safetensors"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CURVES = "curves.svg"
CONFUSION = "confusion.svg"
REPORT = "report.html"
NAMES = (RUN, CHECKPOINT, METRICS, TENSORBOARD, CURVES, CONFUSION, REPORT)
_PROGRESS = "progress"  # in the metadata of a checkpoint


class RunFolder:
    """A run folder that this process alone writes to, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, path: Path, record: Mapping[str, Any]) -> RunFolder:
        """Begin a run in a new or empty folder; ``record`` becomes its run.json.

        Raises UsageError where there is something, TrainingError where it cannot be written.
        """
        check_new(path)
        folder = cls(path)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder._clear_leftovers()
            with replacing(path / RUN) as temporary:
                temporary.write_bytes(text.encode() + b"\n")
        except OSError as error:
            raise TrainingError(
                "{path}: no run can begin there: {reason}; name another folder, or make room",
                path=str(path),
                reason=error.strerror or str(error),
            ) from None
        folder._claim()
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, dict[str, Any]]:
        """Return the run in a folder, to be continued, and its record.

        Raises UsageError where there is none, or where another process is at it.
        """
        record = read_record(path)
        if record is None:
            raise UsageError(
                "{path}: no run in it to resume; name a folder of pictures to begin one",
                path=str(path),
            )
        folder = cls(path)
        folder._claim()
        folder._clear_leftovers()
        return folder, record

    def save_checkpoint(self, progress: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        """Replace the checkpoint: where the run stands, and all arrays that it needs."""
        metadata = {_PROGRESS: json.dumps(progress, allow_nan=False)}
        with self._writing(), replacing(self.path / CHECKPOINT) as path:
            write_safetensors(path, tensors, metadata)

    def load_checkpoint(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """Return what was saved last, None where nothing was yet. Raises ModelError."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            progress = json.loads(read_metadata(path)[_PROGRESS])
        except (KeyError, ValueError):
            raise ModelError("{source}: not a checkpoint of a run", source=str(path)) from None
        return progress, dict(read_safetensors(path))

    def save_model(self, config: ModelConfig, weights: Mapping[str, Array]) -> None:
        """Make the folder a model folder with these weights, which are in lushan's axes."""
        with self._writing():
            write_model_folder(self.path, config, from_parameters(weights), beside=NAMES)

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all; on disk when this returns."""
        with self._writing(), replacing(self.path / name) as path:
            path.write_bytes(content)

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _claim(self) -> None:
        """Keep others out, where the system can; the lock ends with the process."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._lock = os.open(self.path / RUN, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UsageError(
                "{path}: another training is writing to it; wait for it, or name another folder",
                path=str(self.path),
            ) from None
        except OSError:  # a file system without locks
            self.close()

    def _clear_leftovers(self) -> None:
        for path in _leftovers(self.path):
            path.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ModelError) as error:
            reason = error if isinstance(error, LushanError) else error.strerror or str(error)
            raise TrainingError(
                "{path}: the run cannot be written: {reason}; make room or another way, then "
                "continue with --resume: what was saved before is intact",
                path=str(self.path),
                reason=reason,
            ) from None


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the run.json of a folder, None where there is none. Raises UsageError."""
    file = path / RUN
    if not file.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "{path}: not valid JSON: {reason}", path=str(file), reason=str(error)
        ) from None
    if not _is_record(record):
        raise UsageError("{path}: not the record of a run", path=str(file))
    return record


def _is_record(record: object) -> bool:
    """Return whether a run can be resumed from what its run.json has."""
    if not isinstance(record, dict):
        return False
    parts = [record.get(key) for key in ("settings", "config", "data")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    data = record["data"]
    return (
        all(isinstance(data.get(key), str) for key in ("root", "fingerprint"))
        and (data.get("val") is None or isinstance(data["val"], str))
        and {"val", "classes", "counts"} <= data.keys()
    )


def check_new(path: Path) -> None:
    """Raise UsageError unless a run can begin in ``path``: nothing there, or an empty folder."""
    if path.exists() and not path.is_dir():
        raise UsageError("{path}: a file, not a folder to write to", path=str(path))
    if (path / RUN).exists():
        raise UsageError(
            "{path}: there is a run in it: continue it with --resume, or name a new folder",
            path=str(path),
        )
    if path.exists() and {*path.iterdir()} - {*_leftovers(path)}:
        raise UsageError("{path}: the folder is not empty; name a new one", path=str(path))


def _leftovers(folder: Path) -> list[Path]:
    """Return what a process that was killed had not finished writing."""
    names = (*NAMES, CONFIG, WEIGHTS)
    return [
        path
        for path in folder.glob(".*.tmp")
        if any(path.name.startswith(f".{name}.") for name in names)
    ]
