"""benchmarks/first_losses.py finds agreement where there is some, and fails where there is none."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lushan.graph import interpret
from support.small_models import NETWORK

pytest.importorskip("torch")
SOURCE = Path(__file__).parents[2] / "benchmarks" / "first_losses.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The benchmark, which is called with a recipe for a small network."""
    specification = importlib.util.spec_from_file_location("first_losses", SOURCE)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "first_losses", module)  # its dataclass looks for it there
    specification.loader.exec_module(module)
    recipe = {
        "model": "resnet",
        "model_args": NETWORK.to_dict(),
        "batch": 8,
        "size": 16,
        "learning_rate": 0.4,
        "label_smoothing": 0.1,
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    arguments = ["first_losses", "--config", str(path), "--steps", "4", "--classes", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    return module


def test_losses_that_agree(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main() == 0
    out = capsys.readouterr().out
    assert out.count("lushan, PyTorch  ") == 1 + len(benchmark.SMALL_RATES)
    assert "lushan in float64, PyTorch in float64" in out
    assert "FAILED" not in out


def test_a_claim_that_does_not_hold_is_told(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_engine(graph, weights, *, threads=None):
        other = {name: array * 1.01 for name, array in weights.items()}
        return interpret.compile(graph, other, threads=threads)

    monkeypatch.setattr(benchmark.executor, "compile", other_engine)
    assert benchmark.main() == 1
    [failure] = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert failure.startswith("FAILED: in float32 at a rate of 0.0002 losses differ by ")


def test_another_loss_is_seen(benchmark: ModuleType) -> None:
    options = benchmark.argparse.Namespace(
        config=Path(sys.argv[2]), folder=None, classes=3, steps=3
    )
    training, rates = benchmark.prepare(options)
    other = replace(training, label_smoothing=0.0)
    ours = training.ours(rates, interpret.compile, np.float64)
    assert np.abs(ours - training.pytorch(rates, np.float64)).max() <= benchmark.FLOAT64_BOUND
    assert np.abs(ours - other.pytorch(rates, np.float64)).max() > 1e-3


def test_nan_is_no_agreement(benchmark: ModuleType) -> None:
    assert benchmark.violations(0.0, 0.0) == []
    assert len(benchmark.violations(float("nan"), float("nan"))) == 2
    assert len(benchmark.violations(2e-9, 2e-3)) == 2
