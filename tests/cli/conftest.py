"""Runs the command line in this process, and makes pictures for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lushan.cli import main
from support.small_models import LABELS


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs ``lushan`` with arguments, in English unless told otherwise."""
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lushan", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        status = caught.value.code
        return Result(status if isinstance(status, int) else 0, captured.out, captured.err)

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with three small pictures, one in a folder below, and a text file."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    random = np.random.default_rng(5)
    for name in ("a.png", "b.jpg", "below/c.png"):
        pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Return a folder with five small pictures in the folder of each of LABELS."""
    folder = tmp_path / "labelled"
    random = np.random.default_rng(6)
    for name in LABELS:
        (folder / name).mkdir(parents=True)
        for index in range(5):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


Case = tuple[list[str], int, str]  # picture and options, exit status, a part of the message


@pytest.fixture
def refuses(
    run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Return a check that a verb which writes a file answers a bad call with one line, and no file.

    It runs where there are ``a.png``, ``broken.png`` and a folder called ``folder`` + suffix.
    """
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Path("broken.png").write_bytes(b"nothing")

    def check(verb: str, suffix: str, case: Case, *more: str) -> None:
        """``more`` are options and their values for where the case has others of its own."""
        Path(f"folder{suffix}").mkdir()
        (picture, *options), status, message = case
        defaults = {"-m": str(model_folder), "-o": f"out{suffix}"}
        defaults.update(zip(more[::2], more[1::2], strict=True))
        given = [x for key, value in defaults.items() if key not in options for x in (key, value)]
        result = run(verb, picture, *options, *given)
        assert result.status == status
        assert result.err.count("\n") == 1
        assert message in result.err
        assert not Path(f"out{suffix}").exists()

    return check
