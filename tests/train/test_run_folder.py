"""The run folder: whole files or none, one process at a time, and what is not written over."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lushan import atomic_file
from lushan.errors import ModelError, TrainingError, UsageError
from lushan.models.config import ModelConfig
from lushan.models.zoo import load_model
from lushan.train import run_folder
from lushan.train.run_folder import RunFolder, check_new, read_record

DATA = {"root": "d", "val": None, "classes": ["猫"], "counts": {}, "fingerprint": "f"}
RECORD = {"settings": {}, "config": {}, "data": DATA}
STATE = {"conv1.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run"
    with RunFolder.create(path, RECORD) as folder:
        assert folder.load_checkpoint() is None
        folder.save_checkpoint({"step": 3, "loss": 0.1}, STATE)
    assert names(path) == ["last.safetensors", "run.json"]
    assert "猫" in (path / "run.json").read_text(encoding="utf-8")
    folder, record = RunFolder.open(path)
    with folder:
        assert record == RECORD
        saved = folder.load_checkpoint()
        assert saved is not None
        assert saved[0] == {"step": 3, "loss": 0.1}
        np.testing.assert_array_equal(saved[1]["conv1.weight"], STATE["conv1.weight"], strict=True)


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in it to resume"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="the folder is not empty; name a new one"):
        RunFolder.create(tmp_path / "full", RECORD)
    with pytest.raises(UsageError, match="a file, not a folder"):
        RunFolder.create(tmp_path / "full" / "holiday.jpg", RECORD)
    RunFolder.create(tmp_path / "run", RECORD).close()
    with pytest.raises(UsageError, match="there is a run in it: continue it with --resume"):
        RunFolder.create(tmp_path / "run", RECORD)
    others: list[object] = [{}, [], {"settings": {}, "config": {}, "data": {}}]
    others += [{**RECORD, "config": None}, {**RECORD, "data": {**DATA, "root": 3}}]
    for other in others:
        (tmp_path / "run" / "run.json").write_text(json.dumps(other))
        with pytest.raises(UsageError, match="not the record of a run"):
            RunFolder.open(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        read_record(tmp_path / "run")
    assert names(tmp_path / "full") == ["holiday.jpg"]


def test_where_no_run_can_begin(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="no run can begin there: Not a directory; name anoth"):
        RunFolder.create(tmp_path / "file" / "run", RECORD)
    assert names(tmp_path) == ["file"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="files cannot be locked here")
    folder = RunFolder.create(tmp_path / "run", RECORD)
    with pytest.raises(UsageError, match="another training is writing to it"):
        RunFolder.open(tmp_path / "run")
    folder.close()
    RunFolder.open(tmp_path / "run")[0].close()


@pytest.mark.parametrize("step", ["run_folder.write_safetensors", "atomic_file.flush_folder"])
def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path, step: str) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
import numpy as np
from lushan import atomic_file
from lushan.train import run_folder
folder, _ = run_folder.RunFolder.open(Path(sys.argv[1]))
step = {step}
def killed(*arguments):
    step(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
{step} = killed
folder.save_checkpoint({{"step": 2}}, {{"a": np.ones(2)}})
"""
    path = tmp_path / "run"
    with RunFolder.create(path, RECORD) as folder:
        folder.save_checkpoint({"step": 1}, STATE)
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with RunFolder.open(path)[0] as folder:
        saved = folder.load_checkpoint()
        assert saved is not None
        assert saved[0] == {"step": 2 if "flush_folder" in step else 1}
        assert names(path) == ["last.safetensors", "run.json"]


def test_a_killed_beginning_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".run.json.77.tmp").write_text("{")
    check_new(tmp_path)
    RunFolder.create(tmp_path, RECORD).close()
    assert names(tmp_path) == ["run.json"]


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *more: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with RunFolder.create(tmp_path / "run", RECORD) as folder:
        folder.save_checkpoint({"step": 1}, STATE)
        monkeypatch.setattr(run_folder, "write_safetensors", full)
        monkeypatch.setattr(atomic_file, "flush_file", full)
        for write in (
            lambda: folder.save_checkpoint({"step": 2}, STATE),
            lambda: folder.write("report.html", b"x"),
        ):
            with pytest.raises(TrainingError, match="No space left on device; make room"):
                write()
        saved = folder.load_checkpoint()
    assert saved is not None
    assert saved[0] == {"step": 1}
    assert names(tmp_path / "run") == ["last.safetensors", "run.json"]


def test_the_model_is_there_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    model = load_model(model_folder)
    weights = {name: np.array(model.weights[name]) for name in model.weights}
    with RunFolder.create(tmp_path / "run", RECORD) as folder:
        folder.save_model(model.config, weights)
        replace, unlink = Path.replace, Path.unlink
        seen = []

        def keep(path: Path, missing_ok: bool = False) -> None:
            assert path.name.endswith(".tmp")
            unlink(path, missing_ok)

        def look(path: Path, target: Path) -> Path:
            seen.append(load_model(tmp_path / "run").config.label_names)
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", look)
            patch.setattr(Path, "unlink", keep)
            folder.save_model(model.config, {n: 2 * array for n, array in weights.items()})
        assert seen == [model.config.label_names] * 2
    loaded = load_model(tmp_path / "run")
    np.testing.assert_array_equal(loaded.weights["fc.bias"], 2 * weights["fc.bias"])


def test_a_file_that_is_no_checkpoint(tmp_path: Path, model_folder: Path) -> None:
    with RunFolder.create(tmp_path / "run", RECORD) as folder:
        checkpoint = tmp_path / "run" / "last.safetensors"
        checkpoint.write_bytes((model_folder / "model.safetensors").read_bytes())
        with pytest.raises(ModelError, match="not a checkpoint of a run"):
            folder.load_checkpoint()
        checkpoint.write_bytes(b"\0" * 100)
        with pytest.raises(ModelError, match="the safetensors file cannot be read"):
            folder.load_checkpoint()


def test_a_model_beside_strange_files_is_refused(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", RECORD) as folder:
        (tmp_path / "run" / "holiday.jpg").touch()
        with pytest.raises(TrainingError, match="not empty and not a model folder"):
            folder.save_model(ModelConfig("resnet18", 2), {"fc.bias": np.zeros(2, np.float32)})
