"""``lushan train``: a run that is killed and resumed, and every way in which it can be refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lushan.models.safetensors_file import read_safetensors
from lushan.train import loop, run_folder
from support.training_data import SETTINGS, write_pictures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(SETTINGS))
    return path


def test_every_verb_takes_the_result(run, data: Path, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run("train", data, "--config", config, "-o", output, "--epochs", 5, "--format", "json")
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert (record["epochs"], record["images"], record["errors"]) == (5, 6, [])
    assert record["top1"] >= 5
    assert record["top5"] == 6
    assert result.err.count("epoch ") == 5
    assert sorted(path.name for path in output.iterdir()) == [
        "config.json", "confusion.svg", "curves.svg", "last.safetensors", "metrics.jsonl",
        "model.safetensors", "report.html", "run.json", "tensorboard",
    ]  # fmt: skip

    answer = run("classify", data / "red" / "000.png", "--model", output, "--format", "jsonl")
    assert json.loads(answer.out)["predictions"][0]["label"] == "red"
    counts = json.loads(run("evaluate", data, "--model", output, "--format", "json").out)
    assert counts["images"] == 30
    assert counts["top1"] > 24
    assert run("info", output).status == 0
    assert run("quantize", output, "--calibrate", data, "-o", tmp_path / "int8").status == 0
    again = run("train", data, "--init", tmp_path / "int8", "-o", tmp_path / "again")
    assert (again.status, "an int8 model cannot be trained" in again.err) == (2, True)
    text = run("train", "-o", output, "--resume", "--lang", "zh")
    assert (text.status, text.err) == (0, "")
    assert "of epoch" in text.out
    assert "的训练" in (output / "report.html").read_text(encoding="utf-8")


def test_a_model_of_other_classes_gets_a_new_classifier(
    run, data: Path, config: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("train", data, "--config", config, "-o", first, "--epochs", 1).status == 0
    again = run("train", data, "--init", first, "-o", second, "--epochs", 1, "--batch", 8)
    assert "begins anew" not in again.err
    (data / "red").rename(data / "rouge")
    for lang, text in (
        ("en", f"lushan: {first}: its 3 classes are not these 3: the classifier fc begins anew"),
        ("zh", "分类层 fc 从头训练，其余权重全部沿用"),
    ):
        output = tmp_path / lang
        options = ("--init", first, "--epochs", 1, "--batch", 8, "--lang", lang)
        result = run("train", data, "-o", output, *options)
        assert (result.status, result.err.count(text)) == (0, 1), result.err
        # Told once, where the run begins.
        assert text not in run("train", "-o", output, "--resume", "--lang", lang).err
    configs = [json.loads((path / "config.json").read_text()) for path in (first, tmp_path / "en")]
    assert configs[0]["pretrained_cfg"] == configs[1]["pretrained_cfg"]
    assert configs[1]["label_names"] == ["blue", "green", "rouge"]


def test_options_win_over_the_file(run, data: Path, config: Path, tmp_path: Path) -> None:
    options = (
        "--epochs", 1, "--batch", 6, "--size", 10, "--learning-rate", 0.01, "--seed", 9,
        "--freeze", "conv1", "--freeze", "bn1", "--watch-gradients",
    )  # fmt: skip
    assert run("train", data, "--config", config, "-o", tmp_path / "run", *options).status == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    expected = {
        "epochs": 1, "batch": 6, "size": 10, "learning_rate": 0.01, "seed": 9,
        "freeze": ["conv1", "bn1"], "watch_gradients": True, "val_fraction": 0.2,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    run, data: Path, config: Path, tmp_path: Path
) -> None:
    def command(output: Path) -> list[str]:
        options = ["--config", str(config), "-o", str(output), "--epochs", "9", "--resume"]
        return ["train", str(data), *options]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*command(whole)).status == 0
    metrics = parts / "metrics.jsonl"

    def epochs() -> int:
        return metrics.read_text().count("\n") if metrics.exists() else 0

    code = "from lushan.cli import main; main()"
    kills = 0
    while kills < 3:
        before = epochs()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *command(parts)], stderr=subprocess.DEVNULL
        )
        while epochs() < before + 2 and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            break  # it was faster than the kill
        kills += 1
    assert kills
    assert run(*command(parts)).status == 0
    for name in ("last.safetensors", "model.safetensors"):
        first, second = (read_safetensors(folder / name) for folder in (whole, parts))
        assert {k: a.tobytes() for k, a in first.items()} == {
            k: a.tobytes() for k, a in second.items()
        }
    names = [sorted(path.name for path in folder.iterdir()) for folder in (whole, parts)]
    assert names[0] == names[1]


def test_what_is_wrong_with_pictures_is_told_and_the_others_are_used(
    run, data: Path, config: Path, tmp_path: Path
) -> None:
    (data / "red" / "bad.png").write_bytes(b"x")
    (data / "red" / "copy.png").write_bytes((data / "blue" / "000.png").read_bytes())
    (data / "red" / "twice.png").write_bytes((data / "red" / "001.png").read_bytes())
    command = ("train", data, "--config", config, "--epochs", 1)
    result = run(*command, "-o", tmp_path / "run", "--format", "json")
    assert result.status == 1
    assert f"{data / 'red' / 'bad.png'}: not a picture in a known format" in result.err
    assert "it is left out" in result.err
    assert "one picture in several classes: blue/000.png, red/copy.png" in result.err
    assert "the same picture more than once: red/001.png, red/twice.png" in result.err
    (error,) = json.loads(result.out)["errors"]
    assert error["source"].endswith("bad.png")
    chinese = run(*command, "-o", tmp_path / "zh", "--lang", "zh").err
    assert "不使用这张图片" in chinese
    assert "同一张图片出现在多个类别中" in chinese


def test_what_cannot_be_trained_leaves_nothing(
    run, data: Path, config: Path, tmp_path: Path, model_folder: Path
) -> None:
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    (tmp_path / "hollow" / "b").mkdir()
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"epoch": 3}')
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    output = tmp_path / "out"
    cases = [
        ((tmp_path / "none",), "none: no such folder", "没有这个文件夹"),
        ((tmp_path / "one",), "there are 1: only", "训练至少需要两个类别"),
        ((tmp_path / "hollow",), "can be read in 2 of its classes", "没有可读的图片"),
        ((data, "--config", wrong), "wrong.json: settings has no setting 'epoch'", "没有 'epoch'"),
        ((data, "--config", tmp_path / "no.json"), "the settings cannot be read", "无法读取设置"),
        ((data, "--epochs", 0), "epochs should be a whole number from 1", "epochs 应为 1 到"),
        ((data, "--threads", 0), "threads should be 1 or more", "threads 至少为 1"),
        ((data, "--cache", -1), "cache should be 0 or more", "cache 至少为 0"),
        ((data, "--model", "resnet19"), "the architecture 'resnet19' is not one", "架构"),
        ((data, "--init", model_folder, "--model", "resnet18", "--batch", 8),
         "its weights are of another network", "权重属于另一个网络"),
        ((data, "--val", full), "no pictures in it", "里面没有图片"),
        (("--resume",), "no run in it to resume", "没有可以继续的训练"),
        ((), "no run in it to resume", "没有可以继续的训练"),
    ]  # fmt: skip
    for arguments, english, chinese in cases:
        result = run("train", *arguments, "-o", output)
        assert (result.status, result.out) == (2, ""), english
        assert english in result.err
        assert chinese in run("train", *arguments, "-o", output, "--lang", "zh").err
        assert not output.exists(), english
    result = run("train", data, "--config", config, "-o", full)
    assert result.status == 2
    assert "the folder is not empty" in result.err
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_told_and_the_run_can_go_on(
    run, data: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    write = run_folder.write_safetensors
    calls = []

    def filling(path: Path, *more: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_safetensors", filling)
        result = run("train", data, "--config", config, "-o", output)
    assert result.status == 2
    assert "the run cannot be written: No space left on device; make room" in result.err
    assert run("train", "-o", output, "--resume").status == 0
    assert run("classify", data / "red" / "000.png", "--model", output).status == 0


def test_a_diverging_run_is_told(run, data: Path, config: Path, tmp_path: Path) -> None:
    options = ("--learning-rate", 1000, "--epochs", 40)
    result = run("train", data, "--config", config, "-o", tmp_path / "run", *options)
    assert result.status == 2
    assert "the training diverged in epoch" in result.err
    assert "its peak was 1000" in result.err


def test_without_tensorboard_there_is_a_notice(
    run, data: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result = run("train", data, "--config", config, "-o", tmp_path / "run", "--epochs", 1)
    assert result.status == 0
    assert 'pip install "lushan[train]"' in result.err
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert loop.AVERAGE not in (tmp_path / "run" / "metrics.jsonl").read_text()
