"""metrics.jsonl: appended to, cut where a run was killed, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import pytest

from lushan.errors import TrainingError
from lushan.train.metrics import MetricsLog, read_metrics


def record(step: int, **values: object) -> dict[str, object]:
    return {"kind": "step", "epoch": 1, "step": step, "loss": 1 / step, **values}


def open_log(folder: Path, step: int) -> MetricsLog:
    return MetricsLog(folder / "metrics.jsonl", folder / "tensorboard", step=step)


def test_records_after_the_checkpoint_are_taken_away(tmp_path: Path) -> None:
    log = open_log(tmp_path, 0)
    for step in (1, 2, 3):
        log.add(record(step))
    log.sync()
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "step", "ep')  # killed while it wrote
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2, 3]
    log = open_log(tmp_path, 2)
    assert log.records == [record(1), record(2)]
    log.add(record(3, loss=9.0))
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [record(1), record(2), record(3, loss=9.0)]


def test_no_file_and_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    assert read_metrics(path) == []
    for line in ("[]", '{"step": null}', "3", '{"kind": "step"}'):
        path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
        assert read_metrics(path) == [{"step": 1}]


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    log = open_log(tmp_path, 0)
    assert log.has_tensorboard
    log.add(record(1, learning_rate=0.5))
    log.add(record(2, val_top1=None))
    log.sync()
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    data, found = events.read_bytes(), {}
    while data:  # length, its checksum, event, its checksum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    assert found == {("step/loss", 1): 1, ("step/learning_rate", 1): 0.5, ("step/loss", 2): 0.5}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_events_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, at once: a writer with a thread of its own would have us wait for ever."""
    writer = pytest.importorskip("tensorboardX.record_writer")

    def open_file(path: str) -> BinaryIO:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(writer, "open_file", open_file)
    log = open_log(tmp_path, 0)
    with pytest.raises(TrainingError, match="tensorboard: the run cannot be written: No space"):
        [log.add(record(step)) for step in range(1, 1000)]
    with pytest.raises(TrainingError, match="tensorboard: the run cannot be written: No space"):
        log.sync()
    log.close()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the run cannot be written: No such file"):
        open_log(tmp_path / "nowhere", 0)
