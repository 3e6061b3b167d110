"""``lushan explain``: files that show what they should, and one line for what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Run
from lushan.explain import (
    Inspection,
    cam,
    deconvnet,
    gradcam,
    guided_backpropagation,
    occlusion,
    strongest_channels,
)
from lushan.recognizer import load


@pytest.fixture
def inspection(model_folder: Path, pictures: Path):
    with load(model_folder) as recognizer:
        yield Inspection(recognizer, pictures / "a.png")


def expected(inspection: Inspection, method: str, options: list[str]) -> np.ndarray:
    layer = options[options.index("--layer") + 1] if "--layer" in options else None
    channel = int(options[options.index("--channel") + 1]) if "--channel" in options else None
    if "--class" in options:
        index = inspection.model.labels.find(options[options.index("--class") + 1])
    else:
        index = int(inspection.scores.argmax())
    if method == "cam":
        return cam(inspection, index).values
    if method == "gradcam":
        return gradcam(inspection, index, layer).values
    if method == "occlusion":
        return occlusion(inspection, index).heat()
    if method == "guided" and layer is None:
        return guided_backpropagation(inspection, "fc", [index])[0].pattern
    layer = layer or inspection.last_maps
    if channel is None:
        channel = strongest_channels(inspection, layer)[0].channel
    project = deconvnet if method == "deconvnet" else guided_backpropagation
    return project(inspection, layer, [channel])[0].pattern


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("cam", []),
        ("cam", ["--class", "1"]),
        ("gradcam", ["--class", "n01443537"]),
        ("gradcam", ["--layer", "layer1.0.relu1", "--class", "Goldfish"]),
        ("occlusion", ["--class", "金鱼"]),
        ("guided", []),
        ("guided", ["--class", "jeep"]),
        ("guided", ["--layer", "layer1.0.relu2"]),
        ("deconvnet", []),
        ("deconvnet", ["--layer", "layer1.0.relu2", "--channel", "3"]),
    ],
)
def test_the_array_and_the_drawing(
    run: Run, pictures: Path, model_folder: Path, tmp_path: Path, inspection, method, options
) -> None:
    for suffix in (".npy", ".PNG"):
        output = tmp_path / f"out{suffix}"
        result = run(
            "explain", pictures / "a.png", "--method", method, "-m", model_folder, "-o", output,
            *options,
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert result.out.startswith(f"{pictures / 'a.png'}  {method}  ")
        assert result.out.endswith(f"→ {output}\n")
    numbers = np.load(tmp_path / "out.npy")
    wanted = expected(inspection, method, options)
    assert numbers.dtype == np.float32
    assert numbers.shape == wanted.shape
    assert np.allclose(numbers, wanted, atol=1e-6 * np.abs(wanted).max())
    with Image.open(tmp_path / "out.PNG") as drawing:
        assert (drawing.format, drawing.mode, drawing.size) == ("PNG", "RGB", (256, 256))
    assert not list(tmp_path.glob(".*"))  # nothing is left of the writing


def test_the_line_says_what_was_found(
    run: Run, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    call = ("explain", pictures / "a.png", "-m", model_folder, "-o", tmp_path / "a.npy")
    result = run(*call, "--method", "cam", "--class", "2", "--lang", "zh")
    assert "吉普车 (n03594945)  " in result.out or "n03594945" in result.out
    assert " %  →" in result.out
    result = run(*call, "--method", "deconvnet", "--layer", "relu", "--channel", "1")
    assert "  deconvnet  relu  channel 1  row " in result.out


@pytest.mark.parametrize("shape", [(1, 1), (4000, 6000), (64, 64)])
def test_a_picture_of_one_colour_of_any_size(
    run: Run, model_folder: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    Image.new("RGB", shape[::-1], (9, 200, 30)).save(tmp_path / "flat.png")
    for method in ("cam", "gradcam", "deconvnet", "guided", "occlusion"):
        output = tmp_path / f"{method}.png"
        result = run(
            "explain", tmp_path / "flat.png", "--method", method, "-m", model_folder, "-o", output
        )
        assert (result.status, result.err) == (0, "")
        with Image.open(output) as drawing:
            drawing.load()


BAD = {
    "no picture": (["nowhere.png"], 1, "nowhere.png: there is no such file"),
    "broken": (["broken.png"], 1, "broken.png: not a picture"),
    "no model": (["a.png", "-m", "nowhere"], 2, "nowhere: no such file or folder"),
    "class": (["a.png", "--class", "goldfich"], 2, "'goldfich'; the nearest are: goldfish"),
    "number": (["a.png", "--class", "3"], 2, "class 3: the classes are numbered 0 to 2"),
    "negative": (["a.png", "--class", "-1"], 2, "class -1"),
    "layer": (["a.png", "--method", "gradcam", "--layer", "layer1.0.relu7"], 2, "layer1.0.relu1"),
    "vector": (["a.png", "--method", "gradcam", "--layer", "fc"], 2, "fc has no feature maps"),
    "channel": (
        ["a.png", "--method", "deconvnet", "--layer", "relu", "--channel", "8"],
        2,
        "channel 8: relu has the channels 0 to 7",
    ),
    "of which": (["a.png", "--method", "guided", "--channel", "8"], 2, "--channel needs --layer"),
    "not heard": (["a.png", "--layer", "relu"], 2, "--layer says nothing to cam"),
    "two starts": (
        ["a.png", "--method", "guided", "--layer", "relu", "--class", "1"],
        2,
        "give --class or --layer",
    ),
    "suffix": (["a.png", "-o", "out.jpg"], 2, "out.jpg: name a file ending in .png, .npy"),
    "folder": (["a.png", "-o", "folder.png"], 2, "folder.png: a folder"),
    "nowhere": (["a.png", "-o", "no/out.png"], 2, "no such folder"),
    "several": (["."], 2, "2 pictures; explain takes one"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(refuses: Callable[..., None], kind: str) -> None:
    refuses("explain", ".png", BAD[kind], "--method", "cam")


def test_a_file_that_cannot_be_written_keeps_the_old_one(
    run: Run, pictures: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.npy"
    output.write_text("old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    result = run("explain", pictures / "a.png", "--method", "cam", "-m", model_folder, "-o", output)
    assert result.status == 2
    assert result.err == f"lushan: {output}: cannot be written: No space left on device\n"
    assert output.read_text() == "old"
    assert not list(tmp_path.glob(".out*"))


def test_stdin_and_chinese(
    run: Run, pictures: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (pictures / "b.jpg").open("rb") as file:
        monkeypatch.setattr("sys.stdin", type("In", (), {"buffer": file}))
        result = run(
            "explain", "-", "--method", "cam", "-m", model_folder, "-o", tmp_path / "o.png"
        )
    assert (result.status, result.err) == (0, "")
    result = run(
        "explain", pictures / "b.jpg", "--method", "cam", "--layer", "relu", "--lang", "zh",
        "-m", model_folder, "-o", tmp_path / "o.png",
    )  # fmt: skip
    assert result.status == 2
    assert "不适用" in result.err
