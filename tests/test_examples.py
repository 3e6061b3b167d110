"""Every example runs as its head says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import lushan
from support.training_data import write_pictures

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


def run(example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_vanishing_gradients(tmp_path: Path) -> None:
    pictures, output = write_pictures(tmp_path / "pictures", 12), tmp_path / "output"
    arguments = (pictures, output, "--steps", 2, "--depths", 14, "--seeds", 0, 1)
    first = run("vanishing_gradients.py", *arguments, "--most", 3)
    assert first.stdout.count("seed_0") == 3, first.stderr
    again = run("vanishing_gradients.py", *arguments, "--most", 1)
    assert (again.stdout.count("seed_0"), "4 of 24 networks" in again.stdout) == (1, True), (
        again.stderr
    )
    lines = (output / "numbers.tsv").read_text().splitlines()
    heads, *rows = (line.split("\t") for line in lines)
    numbers = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [(n["activation"], n["shortcut"]) for n in numbers] == [
        (activation, shortcut) for activation in ("sigmoid", "tanh") for shortcut in "01"
    ]
    vanished, helped, tanh, _ = (float(n["first_layer"]) / float(n["last_layer"]) for n in numbers)
    assert 0 < vanished < 1e-6
    assert 10 * vanished < helped < 1e-2 < tanh
    for name in ("loss.svg", "gradients.svg"):
        drawing = (output / name).read_text(encoding="utf-8")
        assert "ReLU, 14 layers, batch norm" in drawing
        ElementTree.fromstring(drawing)
    few = run("vanishing_gradients.py", write_pictures(tmp_path / "few", 2), tmp_path / "none")
    assert (few.returncode, few.stderr) == (1, "6 pictures make no batch of 32\n")


def test_fine_tuning(tmp_path: Path, model_folder: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 12)
    options = ("--train-each", 8, "--test-each", 4, "--epochs", 2, "--batch", 8)
    result = run("fine_tuning.py", model_folder, pictures, tmp_path / "output", *options)
    assert result.returncode == 0, result.stderr
    lines = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert lines == ["fine-tuned", "from scratch", "from scratch, 3 times as long"]
    assert result.stdout.count(" of 12 right (") == 3
    names = [
        {path.name.partition("-")[2] for path in (tmp_path / "output/pictures" / part).rglob("*.*")}
        for part in ("train/red", "val/red")
    ]
    assert names[0] | names[1] == {path.name for path in (pictures / "red").iterdir()}
    assert not names[0] & names[1]
    tuned, scratch = (lushan.load(tmp_path / "output" / n) for n in ("fine-tuned", "from-scratch"))
    assert tuned.model.network == scratch.model.network
    assert tuned.model.preprocessing == scratch.model.preprocessing
    seen = run("fine_tuning.py", tmp_path / "output/fine-tuned", pictures, tmp_path / "more")
    assert "knows these already: blue, green, red" in seen.stderr
    few = run("fine_tuning.py", model_folder, pictures, tmp_path / "few", "--train-each", 9)
    assert few.stderr == "blue: too few pictures: 9 and 3 to test on\n"


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "design_a_network.py",
        "fine_tuning.py",
        "vanishing_gradients.py",
    }
