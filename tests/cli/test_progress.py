"""Answers go to stdout, whatever stdout is, also while a bar is drawn on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")


@pytest.mark.parametrize("format_", ["text", "json", "jsonl", "csv"])
def test_answers_reach_a_file_while_the_bar_is_on_the_terminal(
    run, pictures: Path, model_folder: Path, tmp_path: Path, format_: str
) -> None:
    arguments = ["classify", str(pictures), "-m", str(model_folder), "-f", format_]
    expected = run(*arguments).out.encode()
    assert b"n01443537" in expected
    code = "from lushan.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    keyboard, terminal = pty.openpty()
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            chunk = os.read(keyboard, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(keyboard)
    assert process.wait() == 0
    assert out.read_bytes() == expected
    assert b"classify" in shown
    assert b"n01443537" not in shown
