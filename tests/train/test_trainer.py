"""Whole runs on a few coloured pictures: they learn, and resume bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lushan.errors import GraphError, ModelError, TrainingError, UsageError
from lushan.models.checkpoint import read_tensors
from lushan.models.safetensors_file import read_safetensors
from lushan.models.zoo import load_model
from lushan.train import loop, trainer
from lushan.train.metrics import read_metrics
from lushan.train.trainer import Listener, Machine, Outcome, train
from support.training_data import SETTINGS, write_pictures

TIMES = ("seconds", "data_seconds", "pictures_per_second", "validation_seconds")
ALL: dict[str, Any] = {
    **SETTINGS,
    "schedule": {"kind": "one_cycle", "warmup": 0.3},
    "augmentation": {"crop": "resized", "mixup": 0.2},
    "label_smoothing": 0.1,
    "class_weights": "inverse",
    "sampling": "balanced",
    "ema": 0.9,
    "sizes": [[0, 8], [2, 12]],
    "clip": 5.0,
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def run(
    root: Path | None, output: Path, given: Mapping[str, Any] = SETTINGS, **more: Any
) -> Outcome:
    options = {"machine": Machine(threads=1, engine="reference"), **more}
    return train(root, output, given, **options)


def metrics(folder: Path) -> list[dict[str, Any]]:
    records = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def same_results(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "last.safetensors"):
        first, second = (read_safetensors(folder / name) for folder in (one, other))
        assert first.keys() == second.keys()
        for key, array in first.items():
            assert array.tobytes() == second[key].tobytes(), key
    assert metrics(one) == metrics(other)
    assert (one / "config.json").read_bytes() == (other / "config.json").read_bytes()
    assert (one / "confusion.svg").read_bytes() == (other / "confusion.svg").read_bytes()


def test_it_learns(pictures: Path, tmp_path: Path) -> None:
    outcome = run(pictures, tmp_path / "run", {**SETTINGS, "epochs": 6})
    assert outcome.epochs == 6
    assert outcome.validation.images == 6
    assert outcome.validation.top1 >= 5
    records = metrics(tmp_path / "run")
    losses = [record["train_loss"] for record in records if record["kind"] == "epoch"]
    assert losses[-1] < 0.5 * losses[0] < math.log(3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["label_names"] == ["blue", "green", "red"]
    assert config["pretrained_cfg"]["input_size"] == [3, 12, 12]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["seed"] == record["data"]["split"]["seed"] == 0
    assert len(record["data"]["split"]["val"]) == 6
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Training of resnet" in page
    assert page.count("<figure>") == 6


class StoppedError(Exception):
    """What a test stops a run with, as a kill would."""


@pytest.mark.parametrize("stops", [(1,), (4, 5), (3, 7), (9,)])
def test_a_stopped_run_ends_like_an_unbroken_one(
    pictures: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """Steps are 3 an epoch; checkpoints come after each step, or at the ends of epochs only."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(pictures, whole, ALL)
    for seconds, output in ((0.0, parts), (1e9, tmp_path / "epochs")):
        machine = Machine(threads=1, engine="reference", checkpoint_seconds=seconds)
        for stop in stops:

            def on_step(progress: Any, task: Any, stop: int = stop) -> None:
                if progress.step == stop:
                    raise StoppedError

            with pytest.raises(StoppedError):
                run(
                    pictures,
                    output,
                    ALL,
                    resume=True,
                    machine=machine,
                    listener=Listener(on_step=on_step),
                )
        run(None, output, {}, resume=True, machine=machine)
        same_results(whole, output)


def test_stopped_between_the_model_and_the_checkpoint(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(pictures, whole)
    save = loop.RunFolder.save_model
    with monkeypatch.context() as patch:

        def stopped(*arguments: Any) -> None:
            save(*arguments)
            raise StoppedError

        patch.setattr(loop.RunFolder, "save_model", stopped)
        with pytest.raises(StoppedError):
            run(pictures, parts)
    assert load_model(parts).labels.names == ("blue", "green", "red")
    run(pictures, parts, resume=True)
    same_results(whole, parts)


def test_memory_and_decoding_threads_change_nothing(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "one")
    machine = Machine(threads=3, cache_bytes=0, engine="reference")
    run(pictures, tmp_path / "two", machine=machine)
    same_results(tmp_path / "one", tmp_path / "two")


def test_a_finished_run_says_what_it_was(pictures: Path, tmp_path: Path) -> None:
    first = run(pictures, tmp_path / "run")
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    again = run(None, tmp_path / "run", {}, resume=True)
    assert (again.validation.top1, again.epochs) == (first.validation.top1, 3)
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_resuming_with_other_settings_or_pictures(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(pictures, output, {**SETTINGS, "epochs": 1})
    with pytest.raises(UsageError, match="these differ: epochs 1 → 3, seed 0 → 4; leave them out"):
        run(pictures, output, {**SETTINGS, "seed": 4}, resume=True)
    with pytest.raises(UsageError, match="there is a run in it: continue it with --resume"):
        run(pictures, output)
    with pytest.raises(UsageError, match="no run in it to resume"):
        run(None, tmp_path / "other", resume=True)
    moved = tmp_path / "moved"
    pictures.rename(moved)
    run(moved, output, {}, resume=True)
    shutil.copy(moved / "red" / "001.png", moved / "red" / "new.png")
    with pytest.raises(
        UsageError, match=r"not those that the run began with \(counts .*'train': 2"
    ):
        run(moved, output, {}, resume=True)


def test_a_record_with_settings_that_cannot_be(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run", {**SETTINGS, "epochs": 1})
    file = tmp_path / "run" / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["settings"]["epochs"] = "many"
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match=r"run\.json: epochs should be a whole number"):
        run(pictures, tmp_path / "run", {}, resume=True)


def test_early_stop(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.Loop, "validate", _Worsening())
    outcome = run(pictures, tmp_path / "run", {**SETTINGS, "epochs": 20, "early_stop": 2})
    # Better until the third epoch, then worse twice.
    assert (outcome.epochs, outcome.kept_epoch) == (5, 3)
    bests = [r["is_best"] for r in metrics(tmp_path / "run") if r["kind"] == "epoch"]
    assert bests == [True, True, True, False, False]


class _Worsening:
    """Stands for validation: the loss falls for three epochs and then rises."""

    def __init__(self) -> None:
        self._calls = 0

    def __get__(self, instance: Any, owner: Any) -> Any:
        def validate(weights: Any) -> Any:
            self._calls += 1
            loss = abs(self._calls - 3.2)
            confusion = np.diag([1, 1, 1])
            return trainer.Validation(6, 3, 6, loss, confusion, ())

        return validate


def test_the_best_is_kept_or_the_last(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {}
    for keep in ("best", "last"):
        with monkeypatch.context() as patch:
            patch.setattr(trainer.Loop, "validate", _Worsening())
            output = tmp_path / keep
            outcome = run(pictures, output, {**SETTINGS, "epochs": 5, "keep": keep})
        kept[keep] = read_tensors(output / "model.safetensors")["fc.bias"]
        last = read_safetensors(output / "last.safetensors")["fc.bias"]
        assert np.array_equal(kept[keep], last) == (keep == "last")
        assert outcome.kept_epoch == (3 if keep == "best" else 5)


def test_fine_tuning(pictures: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    run(pictures, first, {**SETTINGS, "epochs": 5})
    # Another class: a new classifier; all else is taken over, and frozen.
    shutil.copytree(pictures / "red", pictures / "yellow")
    (pictures / "blue").rename(tmp_path / "blue")
    (pictures / "green").rename(tmp_path / "green")
    shutil.copytree(tmp_path / "green", pictures / "azure")
    tuned = tmp_path / "tuned"
    given = {
        "init": str(first), "freeze": ["conv1", "bn1", "layer1"], "epochs": 1, "batch": 8,
        "val_fraction": 0.2,
    }  # fmt: skip
    run(pictures, tuned, given)
    config = json.loads((tuned / "config.json").read_text())
    assert config["num_classes"] == 3
    assert config["label_names"] == ["azure", "red", "yellow"]
    assert config["pretrained_cfg"]["input_size"] == [3, 12, 12]
    before, after = (read_tensors(folder / "model.safetensors") for folder in (first, tuned))
    for name, array in before.items():
        frozen = name.split(".")[0] in ("conv1", "bn1", "layer1")
        assert np.array_equal(array, after[name]) == frozen, name


def test_the_classifier_of_the_same_classes_is_taken_over(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "first", {**SETTINGS, "epochs": 5})
    given = {"init": str(tmp_path / "first"), "epochs": 1, "learning_rate": 0.0, "batch": 8}
    outcome = run(pictures, tmp_path / "again", given)
    assert outcome.validation.top1 == outcome.validation.images


def test_what_cannot_be_is_said_before_anything_is_written(
    pictures: Path, tmp_path: Path, model_folder: Path
) -> None:
    output = tmp_path / "run"
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"model": "resnet19"}, ModelError, "the architecture 'resnet19' is not one of resnet18"),
        ({"init": str(tmp_path / "none")}, ModelError, "no such file or folder"),
        (
            {"init": str(model_folder), "model": "resnet34", "batch": 8},
            UsageError,
            "weights are of another",
        ),
        ({"init": str(model_folder), "model_args": {"depths": [1]}}, UsageError, "need a model"),
        ({**SETTINGS, "freeze": ["layer9"]}, GraphError, "no parameter is called 'layer9'"),
        ({**SETTINGS, "batch": 25}, UsageError, "24 pictures to train on make no batch of 25"),
        ({**SETTINGS, "preprocessing": {"std": [0, 1, 1]}}, ModelError, "std must be three"),
        ({**SETTINGS, "preprocessing": {"size": 3}}, UsageError, "preprocessing has no setting"),
    ]
    for given, kind, message in cases:
        with pytest.raises(kind, match=message):
            run(pictures, output, given)
        assert not output.exists(), message


def test_a_loss_that_is_no_number(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    given = {**SETTINGS, "learning_rate": 1000.0, "weight_decay": 1.0, "epochs": 30}
    with pytest.raises(TrainingError, match=r"diverged in epoch \d+ after \d+ steps: .*lower"):
        run(pictures, output, given)
    for array in read_safetensors(output / "last.safetensors").values():
        assert np.isfinite(array).all()


def test_broken_pictures_are_left_out_and_named(pictures: Path, tmp_path: Path) -> None:
    for index in range(3):
        (pictures / "red" / f"{index:03}.png").write_bytes(b"broken")
    outcome = run(pictures, tmp_path / "run", {**SETTINGS, "epochs": 1})
    assert len(outcome.unreadable) == 3
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert len(data["unreadable"]) == 3
    assert sum(data["counts"].values()) == 27
    for path in (pictures / "red").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UsageError, match="can be read in 1 of its classes: red"):
        run(pictures, tmp_path / "other", SETTINGS)


def test_pictures_both_to_train_and_to_validate_on_are_told(pictures: Path, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", 2, seed=1)
    notices: list[str] = []
    listener = Listener(on_notice=lambda notice: notices.append(str(notice)))
    given = {**SETTINGS, "epochs": 1}
    run(pictures, tmp_path / "apart", given, val=other, listener=listener)
    run(pictures, tmp_path / "split", given, listener=listener)
    assert notices == []
    shutil.copy(pictures / "red" / "003.png", other / "blue" / "red.png")
    run(pictures, tmp_path / "copy", given, val=other, listener=listener)
    assert [notice.partition(" too:")[0] for notice in notices] == [
        "1 of the 7 pictures to validate on are among those to train on,"
    ]


def test_a_short_run_has_records_of_steps(pictures: Path, tmp_path: Path) -> None:
    """Its learning rate is drawn, and its gradients can be watched, without any setting."""
    run(pictures, tmp_path / "run", {**SETTINGS, "epochs": 2, "watch_gradients": True})
    steps = [record for record in metrics(tmp_path / "run") if record["kind"] == "step"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert all("conv1.weight.gradient_norm" in record for record in steps)


def test_gradients_are_watched(pictures: Path, tmp_path: Path) -> None:
    machine = Machine(threads=1, engine="reference", record_steps=1)
    given = {**SETTINGS, "epochs": 1, "watch_gradients": True}
    run(pictures, tmp_path / "run", given, machine=machine)
    steps = [record for record in metrics(tmp_path / "run") if record["kind"] == "step"]
    assert len(steps) == 3
    assert all(step["conv1.weight.gradient_norm"] > 0 for step in steps)
