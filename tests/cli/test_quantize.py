"""``lushan quantize``: a model folder like any other, or an error and nothing at all."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lushan
from lushan.cli.quantize import Method, spread
from lushan.models.zoo import load_model
from lushan.quantization.ranges import METHODS


def test_every_verb_takes_the_result(
    run, labelled: Path, model_folder: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "int8", tmp_path / "report.html"
    result = run(
        "quantize", model_folder, "--calibrate", labelled, "-o", out, "--report", page,
        "--evaluate", labelled, "--format", "json",
    )  # fmt: skip
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert (record["images"], record["method"], record["errors"]) == (15, "mse", [])
    sizes = record["bytes"]
    assert sizes["int8"] == (out / "model.safetensors").stat().st_size < sizes["float32"]
    assert record["values"][-1]["name"] == "fc"
    assert record["values"][-1]["signal_to_noise"] > 25
    assert record["evaluation"]["pictures"] == 15
    assert "<html" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]

    picture = next(labelled.glob("*/*.png"))
    for arguments in (("classify", picture), ("evaluate", labelled), ("bench", "infer")):
        extra = ("--runs", 1) if "bench" in arguments else ()
        assert run(*arguments, "--model", out, *extra).status == 0
    facts = json.loads(run("info", out, "--format", "json").out)
    assert facts["precision"] == "int8"
    assert facts["weight_bytes"] == load_model(out).weight_bytes < sizes["float32"] / 3
    counts = json.loads(run("evaluate", labelled, "--model", out, "--format", "json").out)
    assert [counts["top1"], counts["top5"]] == record["evaluation"]["int8"]
    again = run("quantize", out, "--calibrate", labelled, "-o", tmp_path / "again")
    assert "quantised already" in again.err


def test_the_command_line_and_the_library_give_the_same_bits(
    run, labelled: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    assert run("quantize", model_folder, "--calibrate", labelled, "-o", out).status == 0
    paths = sorted(labelled.glob("*/*.png"))
    for engine, threads in (("cpu", 1), ("cpu", 3), ("reference", None)):
        with lushan.load(out, engine=engine, threads=threads) as recognizer:
            alone = [recognizer.classify(path) for path in paths]
            together = list(recognizer.classify_many(paths))
        assert together == alone
        result = run("classify", *paths, "--model", out, "--format", "jsonl")
        told = [json.loads(line)["predictions"] for line in result.out.splitlines()]
        expected = [[p.probability for p in predictions] for predictions in alone]
        assert [[p["probability"] for p in predictions] for predictions in told] == expected


@pytest.mark.parametrize("method", Method)
def test_text_and_methods(
    run, pictures: Path, model_folder: Path, tmp_path: Path, method: Method
) -> None:
    out = tmp_path / "int8"
    result = run(
        "quantize", model_folder, "--calibrate", pictures, "-o", out, "--method", method.value
    )
    assert result.status == 0, result.err
    assert f"calibrated on 3 pictures ({method.value})" in result.out
    assert "3 / 3" in result.out
    with lushan.load(out) as recognizer:
        assert recognizer.model.config.extra["quantization_config"]["method"] == method.value


def test_the_methods_are_those_there_are() -> None:
    assert [method.value for method in Method] == list(METHODS)


def test_pictures_that_cannot_be_read_are_named(
    run, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "int8"
    result = run("quantize", model_folder, "--calibrate", pictures, "-o", out, "--format", "json")
    assert result.status == 1
    record = json.loads(result.out)
    [error] = record["errors"]
    assert error["source"] == str(pictures / "broken.jpg")
    assert f"lushan: {pictures / 'broken.jpg'}" in result.err
    assert record["images"] == 3
    load_model(out)


def test_what_cannot_be_done_leaves_nothing(
    run, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    empty, one, broken, full = (tmp_path / name for name in ("empty", "one", "broken", "full"))
    for folder in (empty, one, broken, full):
        folder.mkdir()
    shutil.copy(pictures / "a.png", one)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (broken / name).write_bytes(b"\xff\xd8\xff")
    (full / "mine.txt").write_text("mine")
    out, elsewhere = tmp_path / "int8", tmp_path / "none" / "report.html"
    cases = [
        (empty, out, (), f"lushan: {empty}: no pictures in it to calibrate on"),
        (tmp_path / "no", out, (), "no such folder"),
        (one, out, (), "at least 2 pictures that can be read"),
        (broken, out, (), "there are 0; 3 cannot be read, the first: " + str(broken / "a.jpg")),
        (pictures, full, (), "the folder is not empty and not a model folder"),
        (pictures, full / "mine.txt", (), "a file, not a folder to write to"),
        (pictures, out, ("--pictures", 0), "pictures should be 1 or more; received 0"),
        (pictures, out, ("--threads", -3), "threads should be 1 or more; received -3"),
        (pictures, out, ("--report", elsewhere), "the report cannot be written there"),
        (pictures, out, ("--report", full), "a folder; name a file for the report"),
        (pictures, out, ("--evaluate", pictures), "are no classes of this model: below"),
    ]
    for folder, target, more, message in cases:
        result = run("quantize", model_folder, "--calibrate", folder, "-o", target, *more)
        assert result.status == 2, message
        assert message in result.err
        assert result.out == ""
        assert not out.exists()
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    assert "至少需要 2 张" in run(
        "quantize", model_folder, "--calibrate", one, "-o", out, "--lang", "zh"
    ).err  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("conv1.weight", np.nan, "NaN or infinity in (1): conv1.weight"),
        ("bn1.bias", -100.0, "its value relu is 0.0 at every pixel of the 3 calibration pictures"),
        ("conv1.weight", 3e38, "its value relu is not a finite number on the calibration pictures"),
    ],
)
def test_weights_that_cannot_be_quantised(
    run, pictures: Path, model_folder: Path, tmp_path: Path, name: str, values: float, message: str
) -> None:
    folder, out = tmp_path / "model", tmp_path / "int8"
    shutil.copytree(model_folder, folder)
    change(folder, name, values)
    result = run("quantize", folder, "--calibrate", pictures, "-o", out)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("relu.scale", None, "missing tensors (1): relu.scale"),
        ("relu.scale", 0.0, "scales that are 0 or below in (1): relu.scale"),
        ("conv1.weight_scale", np.nan, "NaN or infinity in (1): conv1.weight_scale"),
    ],
)
def test_a_quantised_model_without_a_sound_scale_is_refused(
    run, pictures: Path, model_folder: Path, tmp_path: Path,
    name: str, values: float | None, message: str,
) -> None:  # fmt: skip
    out = tmp_path / "int8"
    assert run("quantize", model_folder, "--calibrate", pictures, "-o", out).status == 0
    change(out, name, values)
    result = run("classify", pictures / "a.png", "--model", out)
    assert (result.status, result.out) == (2, "")
    assert f"{out / 'model.safetensors'}: " in result.err
    assert message in result.err


def change(folder: Path, name: str, values: float | None) -> None:
    """Set all numbers of one tensor of a model folder, or take the tensor away."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if values is None:
        del tensors[name]
    else:
        tensors[name] = np.full_like(tensors[name], values)
    save_file(tensors, path)


def test_a_report_that_cannot_be_written_is_an_error_after_the_model(
    run, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "int8", tmp_path / ("long" * 62 + ".html")  # with .tmp: too long
    result = run("quantize", model_folder, "--calibrate", pictures, "-o", out, "--report", page)
    assert result.status == 2
    assert "the report cannot be written: " in result.err
    load_model(out)
    assert not list(tmp_path.glob(".long*"))


def test_the_float32_model_is_not_overwritten(
    run, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    before = (folder / "model.safetensors").read_bytes()
    for model in (folder, folder / "model.safetensors"):
        result = run("quantize", model, "--calibrate", pictures, "-o", folder)
        assert result.status == 2
        assert "the float32 model itself" in result.err
    assert (folder / "model.safetensors").read_bytes() == before


def test_pictures_are_spread_evenly() -> None:
    paths = [Path(str(index)) for index in range(10)]
    assert spread(paths, 20) == paths
    assert spread(paths, 5) == paths[::2]
    assert len(set(spread(paths, 7))) == 7


@pytest.mark.shared
def test_cifar10(run, shared: Path, tmp_path: Path) -> None:
    """A part of the promise: at most 0.3 points of top-1, on 1000 pictures within its noise."""
    root = tmp_path / "cifar10"
    wanted = {"train": 50, "test": 100}  # pictures of each class
    with tarfile.open(shared / "data/cifar10.tar.xz", "r|xz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and int(Path(parts[3]).stem) < wanted[parts[1]]:
                data = archive.extractfile(member)
                assert data is not None
                target = root.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data.read())
    result = run(
        "quantize", shared / "weights/resnet20-cifar10", "--calibrate", root / "train",
        "-o", tmp_path / "int8", "--evaluate", root / "test", "--format", "json",
    )  # fmt: skip
    assert result.status == 0, result.err
    record = json.loads(result.out)
    counts = record["evaluation"]
    assert (record["images"], counts["pictures"]) == (500, 1000)
    assert counts["int8"][0] >= counts["float32"][0] - 8
    assert record["values"][-1]["signal_to_noise"] > 30
    assert record["bytes"]["int8"] < 0.27 * record["bytes"]["float32"]
