"""What docs/serve.md tells people to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serve.conftest import serving

TEXT = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
BLOCKS = [
    (language, code)
    for language, code in re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
    if "URL" in code
]


def test_every_client_has_its_example() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "python", "python"]


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_example(
    language: str, code: str, model_folder: Path, files: list[bytes], tmp_path: Path
) -> None:
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(files[1])
    command = ["bash", "-ec"] if language == "sh" else [sys.executable, "-c"]
    with serving(("flowers", model_folder)) as client:
        result = subprocess.run(
            [*command, code.replace("curl ", "curl -sSf ")],
            cwd=tmp_path,
            env={**os.environ, "URL": f"http://127.0.0.1:{client.port}"},
            capture_output=True,
            check=False,
            text=True,
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
