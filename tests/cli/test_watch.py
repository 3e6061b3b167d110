"""``lushan watch``: lines, counts, statuses, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import lushan
from cli.conftest import Run
from lushan.image.frame import rgb_to_frame
from support.clips import write_clip

RANDOM = np.random.default_rng(9)
PICTURES = [RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(8)]
RAW = ("--raw", "nv12", "--size", "64x48")
MODEL = ("--model", "resnet20-cifar10")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a file with the NV12 frames of PICTURES."""
    path = tmp_path / "frames.nv12"
    path.write_bytes(b"".join(bytes(rgb_to_frame(one, "NV12")) for one in PICTURES))
    return path


def records(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_raw_frames_have_the_answers_of_classify(run: Run, raw: Path) -> None:
    watched = run("watch", raw, *RAW, *MODEL, "--rate", 4, "--top", 3)
    asked = run("classify", raw, *RAW, *MODEL, "--top", 3, "--format", "jsonl")
    assert (watched.status, asked.status) == (0, 0)
    lines = records(watched.out)
    assert [line["frame"] for line in lines] == list(range(8))
    assert [line["seconds"] for line in lines] == [index / 4 for index in range(8)]
    assert [line["predictions"] for line in lines] == [
        record["predictions"] for record in records(asked.out)
    ]  # to the last bit
    assert lines[0]["source"] == str(raw)
    assert lines[0]["input"]["format"] == "NV12"
    assert "8 frames, 8 recognised, 0 dropped, 0 damaged" in watched.err


def test_a_photograph_has_the_answer_of_classify(run: Run, photos: list[Path]) -> None:
    pytest.importorskip("av")
    watched = run("watch", photos[0], *MODEL)
    asked = run("classify", photos[0], *MODEL, "--format", "jsonl")
    with lushan.load("resnet20-cifar10") as recognizer:
        answer = recognizer.classify(photos[0]).to_dict()
    [line], [record] = records(watched.out), records(asked.out)
    assert line["predictions"] == record["predictions"] == answer["predictions"]
    assert line["input"] == record["input"]


def test_an_annotated_video(run: Run, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    plain = [np.full((96, 128, 3), 128, np.uint8)] * 8
    clip = write_clip(tmp_path / "clip.mkv", plain)
    out = tmp_path / "out.mp4"
    result = run("watch", clip, *MODEL, "--every", 3, "--annotate", out)
    assert result.status == 0
    assert [line["frame"] for line in records(result.out)] == [0, 3, 6]
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8
    for frame in frames:
        assert frame.shape == (96, 128, 3)
        assert frame[:20].std() > 10  # text on a darker bar
        assert np.abs(frame[60:].astype(int) - 128).max() < 8  # the picture below it


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("frames.nv12", "--raw", "nv12", "--size", "64x49"), 2, "not whole NV12 frames of 64×49"),
        (("frames.nv12", "--raw", "nv12"), 2, "--raw needs --size"),
        (("frames.nv12", "--size", "64x48"), 2, "give --raw too"),
        (
            ("frames.nv12", "--raw", "p010", "--size", "64x48"),
            2,
            "frame format 'p010' is not known",
        ),
        (("frames.nv12", "--raw", "nv12", "--size", "64"), 2, "--size should be WIDTHxHEIGHT"),
        (("frames.nv12", *RAW, "--rate", "0"), 2, "rate should be above 0 frames a second"),
        (("frames.nv12", *RAW, "--smooth", "-1"), 2, "smooth should be 0 seconds or more"),
        (("frames.nv12", *RAW, "--model", "nothing"), 2, "nothing"),
        (("missing.mp4",), 2, "missing.mp4: No such file"),
        (("missing.nv12", *RAW), 2, "there is no such file"),
        (("empty", *RAW), 2, "empty: the file is empty"),
        (("-",), 2, "raw frames need their format and size"),
    ],
)
def test_what_cannot_be_watched(
    run: Run,
    raw: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(raw.parent)
    Path("empty").touch()
    result = run("watch", *arguments, *(() if "--model" in arguments else MODEL))
    assert (result.status, result.out) == (status, "")
    assert message in result.err


def test_a_video_is_not_written_over_its_source(run: Run, raw: Path) -> None:
    before = raw.read_bytes()
    result = run("watch", raw, *RAW, *MODEL, "--annotate", raw)
    assert (result.status, "is the source itself" in result.err) == (2, True)
    assert raw.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "answers"), [("nowhere/seen.mp4", 0), ("seen.unknown", 0), ("/dev/full", 8)]
)
def test_an_annotated_video_that_cannot_be_written(
    run: Run, raw: Path, name: str, answers: int
) -> None:
    pytest.importorskip("av")
    path = raw.parent / name
    if answers:  # a disk that is full
        path = raw.parent / "full.mp4"
        path.symlink_to(name)
    result = run("watch", raw, *RAW, *MODEL, "--annotate", path)
    assert result.status == 2
    assert f"{path}: a video cannot be written there" in result.err
    assert len(records(result.out)) <= answers
    assert path.is_symlink() or not path.exists()


def start(*arguments: object, **settings: object) -> subprocess.Popen[str]:
    """Start ``lushan watch`` on raw frames from a pipe, which stays open."""
    command = "from lushan.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, "watch", "-", *RAW, *MODEL, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LANG": "C.UTF-8"},
    )  # used as a context manager, it closes the pipes and waits


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_counts(raw: Path, number: signal.Signals) -> None:
    size = raw.stat().st_size // 8
    with start() as process:
        process.stdin.write(raw.read_bytes()[:size])
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        assert first["frame"] == 0
        process.send_signal(number)  # while it waits for the next frame
        assert process.wait(20) == 0
        assert b"-: 1 frames, 1 recognised" in process.stderr.read()


def test_a_stream_cut_short_is_told_after_its_answers(raw: Path) -> None:
    with start() as process:
        out, err = process.communicate(raw.read_bytes()[:-100], 30)
    assert process.returncode == 1
    assert len(out.splitlines()) == 7
    assert b"are not whole NV12 frames of 64" in err


def test_metrics_can_be_fetched(raw: Path) -> None:
    pytest.importorskip("prometheus_client")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start("--metrics-port", port) as process:
        process.stdin.write(raw.read_bytes())
        process.stdin.flush()
        for _ in range(8):
            process.stdout.readline()
        text = ""
        deadline = time.monotonic() + 10
        while "lushan_watch_told_total 8.0" not in text and time.monotonic() < deadline:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        process.stdin.close()
        assert process.wait(20) == 0
    for name in ("frames", "answered", "told"):
        assert f"lushan_watch_{name}_total 8.0" in text
    assert "lushan_watch_dropped_total 0.0" in text
    assert "lushan_watch_frames_per_second" in text
