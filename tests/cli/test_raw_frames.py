"""``lushan classify --raw``: files and streams of frames, and every way that they can be wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lushan
from lushan.image.color import BT709
from lushan.image.raw_frame import Frame, raw_frame_size

WIDTH, HEIGHT = 40, 30
SIZE = raw_frame_size("NV12", WIDTH, HEIGHT)
OPTIONS = ("--raw", "nv12", "--size", "40x30", "--format", "jsonl")


@pytest.fixture
def frames() -> list[bytes]:
    """Return the bytes of five frames."""
    random = np.random.default_rng(8)
    return [random.integers(0, 256, SIZE, np.uint8).tobytes() for _ in range(5)]


def expected(model_folder: Path, frames: list[bytes], **meaning: object) -> list[list[float]]:
    with lushan.load(model_folder, threads=1) as recognizer:
        answers = [
            recognizer.classify(Frame.from_bytes(data, "NV12", WIDTH, HEIGHT, **meaning))
            for data in frames
        ]
    return [[one.probability for one in answer] for answer in answers]


def probabilities(out: str) -> list[list[float]]:
    records = [json.loads(line) for line in out.splitlines()]
    return [[one["probability"] for one in record["predictions"]] for record in records]


def test_a_file_of_frames_has_the_answers_of_the_api(run, tmp_path, model_folder, frames) -> None:
    path = tmp_path / "clip.nv12"
    path.write_bytes(b"".join(frames))
    result = run("classify", path, *OPTIONS, "--model", model_folder)
    assert result.status == 0
    assert probabilities(result.out) == expected(model_folder, frames)
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["source"] for record in records] == [f"{path}:{n}" for n in range(5)]
    assert records[0]["input"]["format"] == "NV12"


def test_standard_and_range_are_heeded(run, tmp_path, model_folder, frames) -> None:
    path = tmp_path / "clip.nv12"
    path.write_bytes(frames[0])
    options = ("--standard", "709", "--range", "full")
    result = run("classify", path, *OPTIONS, *options, "--model", model_folder)
    meaning = {"standard": BT709, "value_range": "full"}
    assert probabilities(result.out) == expected(model_folder, frames[:1], **meaning)
    assert probabilities(result.out) != expected(model_folder, frames[:1])


def test_padded_rows(run, tmp_path, model_folder, frames) -> None:
    rows = np.frombuffer(frames[0], np.uint8).reshape(-1, WIDTH)
    path = tmp_path / "padded.nv12"
    path.write_bytes(np.pad(rows, ((0, 0), (0, 24)), constant_values=255).tobytes())
    result = run("classify", path, *OPTIONS, "--stride", 64, "--model", model_folder)
    assert probabilities(result.out) == expected(model_folder, frames[:1])


def test_a_stream_is_answered_frame_by_frame(model_folder, frames) -> None:
    """Each answer comes before the next frame is sent, but for what is read ahead."""
    command = [sys.executable, "-c", "from lushan.cli import main; main()", "classify", "-"]
    command += [*OPTIONS, "--model", str(model_folder), "--threads", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for data in frames[:3]:
            process.stdin.write(data)
            process.stdin.flush()
        first = process.stdout.readline()
        for data in frames[3:]:
            process.stdin.write(data)
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait() == 0
    assert probabilities((first + rest).decode()) == expected(model_folder, frames)
    assert json.loads(first)["source"] == "-:0"


def test_a_stream_cut_short_answers_its_whole_frames(
    run, monkeypatch, model_folder, frames
) -> None:
    with _stdin(b"".join(frames)[:-7]) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        result = run("classify", "-", *OPTIONS, "--model", model_folder)
    assert result.status == 1
    *good, last = [json.loads(line) for line in result.out.splitlines()]
    assert [record["source"] for record in good] == [f"-:{n}" for n in range(4)]
    assert last["source"] == "-"
    assert f"4, and {SIZE - 7} bytes left" in last["error"]
    assert result.err.count("\n") == 1


def _stdin(data: bytes) -> io.TextIOWrapper:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return io.TextIOWrapper(os.fdopen(read, "rb"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (bytes(SIZE - 1), f"{SIZE - 1} bytes are not whole NV12 frames of 40×30 ({SIZE} bytes"),
        (bytes(3 * SIZE + 5), "bytes each: 3, and 5 bytes left): cut short, or another --size"),
    ],
)
def test_a_file_that_does_not_come_out_even_is_refused(
    run, tmp_path, model_folder, content, message
) -> None:
    path, good = tmp_path / "bad.nv12", tmp_path / "good.nv12"
    path.write_bytes(content)
    good.write_bytes(bytes(SIZE))
    missing = tmp_path / "missing.nv12"
    result = run("classify", path, missing, good, *OPTIONS, "--model", model_folder)
    assert result.status == 1
    first, second, third = [json.loads(line) for line in result.out.splitlines()]
    assert first["source"] == str(path)
    assert message in first["error"]
    assert message in result.err
    assert "there is no such file" in second["error"]
    assert third["source"] == f"{good}:0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--raw", "nv12"], "--raw needs --size"),
        (["--size", "40x30"], "--size is about raw frames: give --raw too"),
        (["--stride", "64"], "--stride is about raw frames"),
        (["--range", "full"], "--range is about raw frames"),
        (["--raw", "nv12", "--size", "40"], "--size should be WIDTHxHEIGHT"),
        (["--raw", "nv12", "--size", "40x-3"], "--size should be WIDTHxHEIGHT"),
        (["--raw", "nv12", "--size", "0x30"], "a frame of 0×30 has no pixels"),
        (["--raw", "nv12", "--size", "99999x1"], "no side may be over 65535"),
        (["--raw", "nv12", "--size", "60000x60000"], "is more than 178000000 pixels"),
        (["--raw", "nv12", "--size", "40x30", "--stride", "39"], "the stride 39 is less"),
        (["--raw", "p010", "--size", "40x30"], "frame format 'p010' is not known; there are I444"),
    ],
)
def test_wrong_options_stop_the_call(run, tmp_path, model_folder, options, message) -> None:
    path = tmp_path / "clip.nv12"
    path.write_bytes(bytes(SIZE))
    result = run("classify", path, *options, "--model", model_folder)
    assert result.status == 2
    assert result.out == ""
    assert message in result.err


def test_an_odd_size_in_chinese(run, tmp_path, model_folder) -> None:
    path = tmp_path / "one.nv12"
    path.write_bytes(bytes(raw_frame_size("NV12", 1, 1)))
    options = ("--raw", "nv12", "--size", "1x1", "--model", model_folder)
    assert run("classify", path, *options).status == 0
    path.write_bytes(b"xx")
    result = run("classify", path, *options, "--lang", "zh")
    assert "不是整数个 1×1 的 NV12 帧" in result.err
