"""Every example runs as its head says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lushan

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_design_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "flowers"
    command = [sys.executable, str(EXAMPLES / "design_a_network.py"), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "residual: 8 layers" in result.stdout
    assert "plain: 8 layers" in result.stdout
    with lushan.load(folder) as recognizer:
        assert recognizer.labels.names == ("rose", "tulip", "daisy", "iris", "peony")
        assert recognizer.model.network.activation == "prelu"


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"design_a_network.py"}
