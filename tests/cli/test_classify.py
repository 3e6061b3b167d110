"""``lushan classify``: every kind of input, every format, every way to fail."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lushan
from lushan.models.resnet import ARCHITECTURES
from support.small_models import write_small_model


@pytest.fixture
def server(pictures: Path) -> Iterator[str]:
    """Serve the pictures on loopback; return the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(pictures))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_json_records_follow_the_contract(run, pictures: Path, model_folder: Path) -> None:
    path = pictures / "a.png"
    result = run("classify", path, "--model", model_folder, "--top", 2, "--format", "json")
    assert result.status == 0
    [record] = json.loads(result.out)
    assert record["source"] == str(path)
    assert record["input"]["width"] == 48
    assert record["input"]["height"] == 40
    assert [prediction["rank"] for prediction in record["predictions"]] == [1, 2]
    for prediction in record["predictions"]:
        assert list(prediction) == ["rank", "index", "label", "description", "probability"]
    with lushan.load(model_folder) as recognizer:
        expected = recognizer.classify(path, top=2)
    assert [p["label"] for p in record["predictions"]] == [p.label for p in expected]
    assert [p["probability"] for p in record["predictions"]] == [p.probability for p in expected]


@pytest.mark.parametrize(("name", "size"), [("resnet20_cifar", 32), ("resnet18", 64)])
def test_a_picture_has_the_same_bits_in_every_batch(
    run, tmp_path: Path, name: str, size: int
) -> None:
    """Alone from the API; in batches of 1, 2, 7 and 64, each on 1, 2 and 4 threads, from here."""
    network = ARCHITECTURES[name]
    config = {"input_size": [3, size, size], "interpolation": "bilinear", "crop_pct": 1.0}
    model = write_small_model(tmp_path / "model", network, pretrained_cfg=config)
    random = np.random.default_rng(3)
    paths = [tmp_path / f"{number:02}.png" for number in range(64)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(path)
    with lushan.load(model, threads=1) as recognizer:
        alone = [recognizer.classify(path, top=10) for path in paths]
    expected = [[p.probability for p in predictions] for predictions in alone]
    assert len({tuple(probabilities) for probabilities in expected}) == 64
    assert all(min(each) > 0 and max(each) < 1 for each in expected)  # a 0 or 1 hides differences
    for threads in (1, 2, 4):
        for batch in (1, 2, 7, 64):
            order = random.permutation(64)[:batch]
            options = ("--top", 10, "--threads", threads, "--format", "jsonl")
            chosen = [paths[number] for number in order]
            result = run("classify", *chosen, "--model", model, *options)
            records = [json.loads(line)["predictions"] for line in result.out.splitlines()]
            found = [[p["probability"] for p in record] for record in records]
            assert found == [expected[number] for number in order], (threads, batch)


def test_folders_and_globs_give_the_pictures_below_in_order(
    run, pictures: Path, model_folder: Path
) -> None:
    result = run(
        "classify", pictures, pictures / "*.png", "--model", model_folder, "--format", "jsonl"
    )
    assert result.status == 0, result.err
    sources = [json.loads(line)["source"] for line in result.out.splitlines()]
    names = ["a.png", "b.jpg", "below/c.png", "a.png"]
    assert sources == [str(pictures / name) for name in names]


def test_csv_has_a_row_per_prediction(run, pictures: Path, model_folder: Path) -> None:
    result = run("classify", pictures, "--model", model_folder, "--format", "csv", "--top", 3)
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert len(rows) == 9
    assert {row["label"] for row in rows[:3]} == {"n02123045", "n01443537", "n03594945"}
    assert sum(float(row["probability"]) for row in rows[:3]) == pytest.approx(1)


@pytest.mark.parametrize(("lang", "name"), [("en", "goldfish"), ("zh", "金鱼")])
def test_text_names_the_classes_in_the_language(
    run, pictures: Path, model_folder: Path, lang: str, name: str
) -> None:
    result = run("classify", pictures / "a.png", "--model", model_folder, "--lang", lang)
    assert name in result.out
    assert "n01443537" in result.out
    assert "%" in result.out


def test_the_locale_chooses_the_language(
    run, pictures: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    result = run("classify", pictures / "a.png", pictures / "none.png", "-m", model_folder)
    assert "金鱼" in result.out
    assert any("\u4e00" <= character <= "\u9fff" for character in result.err)


def test_stdin(run, pictures: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            assert count is not None and count > 0, "a pipe may never end"
            return super().read(count)

    class Stdin:
        buffer = Pipe((pictures / "a.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stdin)
    result = run("classify", "-", "--model", model_folder, "--format", "jsonl")
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert record["source"] == record["input"]["source"] == "-"
    Stdin.buffer = io.BytesIO(b"")
    assert run("classify", "-", "--model", model_folder).err == "lushan: -: the file is empty\n"


def test_urls(run, server: str, pictures: Path, model_folder: Path) -> None:
    result = run(
        "classify", f"{server}/a.png", f"{server}/none.png", "-m", model_folder, "-f", "jsonl"
    )
    assert result.status == 1
    answered, failed = map(json.loads, result.out.splitlines())
    assert answered["source"] == f"{server}/a.png"
    assert answered["predictions"]
    assert "404" in failed["error"]
    assert f"lushan: {server}/none.png: cannot be fetched" in result.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "http://[::1", "https:///x"])
def test_addresses_that_do_not_answer(run, model_folder: Path, url: str) -> None:
    result = run("classify", url, "--model", model_folder)
    assert result.status == 1
    assert url in result.err


def test_broken_inputs_are_named_and_the_others_answered(
    run, pictures: Path, model_folder: Path
) -> None:
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "text.jpg").write_text("not a picture")
    (pictures / "half.jpg").write_bytes((pictures / "b.jpg").read_bytes()[:300])
    (pictures / "nothing").mkdir()
    result = run(
        "classify",
        pictures,
        pictures / "nothing",
        pictures / "missing.png",
        pictures / "*.gif",
        "--model",
        model_folder,
        "--format",
        "json",
    )
    assert result.status == 1
    records = json.loads(result.out)
    failed = [Path(record["source"]).name for record in records if "error" in record]
    assert failed == ["empty.jpg", "half.jpg", "text.jpg", "nothing", "missing.png", "*.gif"]
    assert sum("predictions" in record for record in records) == 3
    lines = result.err.splitlines()
    assert len(lines) == 6
    assert all(line.startswith(f"lushan: {pictures}") for line in lines)


def test_a_thousand_pictures_of_which_three_are_broken(
    run, tmp_path: Path, model_folder: Path
) -> None:
    random = np.random.default_rng(8)
    broken = {17, 500, 999}
    for index in range(1000):
        path = tmp_path / f"{index:04}.png"
        if index in broken:
            path.write_bytes(random.bytes(200))
        else:
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    result = run("classify", tmp_path, "--model", model_folder, "--format", "jsonl")
    assert result.status == 1
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [Path(record["source"]).name for record in records] == [
        f"{index:04}.png" for index in range(1000)
    ]
    assert {index for index, record in enumerate(records) if "error" in record} == broken
    assert len(result.err.splitlines()) == 3
    for index in broken:
        assert f"{index:04}.png" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--top", "0"],
            "top should be between 1 and 3, the model's number of classes; received 0",
        ),
        (["--top", "5000"], "top should be between 1 and 3"),
        (["--top", "many"], "--top"),
        (["--threads", "0"], "threads should be 1 or more; received 0"),
        (["--format", "xml"], "xml"),
        (["--lang", "fr"], "fr"),
        (["--model", "resnet50"], "resnet50 is an architecture, and its weights are not here"),
        (["--model", "no/such/model/anywhere"], "no such file or folder"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_call_exits_with_2(
    run, pictures: Path, model_folder: Path, arguments: list[str], message: str
) -> None:
    result = run("classify", pictures / "a.png", "--model", model_folder, *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.out == ""


def test_too_little_memory_is_one_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lushan.cli.classify.load", load)
    result = run("classify", "a.png")
    expected = "lushan: not enough memory: give smaller pictures or a smaller model\n"
    assert (result.status, result.err) == (2, expected)


def test_no_pictures_named_is_a_wrong_call(run, model_folder: Path) -> None:
    result = run("classify", "--model", model_folder)
    assert result.status == 2
    assert "PATH" in result.err


def test_json_of_failures_alone_is_still_json(run, model_folder: Path) -> None:
    result = run("classify", "/nowhere/a.png", "--model", model_folder, "--format", "json")
    assert result.status == 1
    [record] = json.loads(result.out)
    assert record["source"] == "/nowhere/a.png"
    assert "error" in record
