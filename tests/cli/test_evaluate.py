"""``lushan evaluate``: counts, mismatches by name, the published figures on shared data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lushan
from support.small_models import LABELS


def test_counts_are_counts_of_pictures(run, labelled: Path, model_folder: Path) -> None:
    (labelled / LABELS[1] / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = run("evaluate", labelled, "--model", model_folder, "--format", "json")
    assert result.status == 1
    counts = json.loads(result.out)
    with lushan.load(model_folder) as recognizer:
        right = sum(
            recognizer.classify(path)[0].label == path.parent.name
            for path in labelled.glob("*/*.png")
        )
    assert 0 < right < 15
    assert (counts["images"], counts["top1"], counts["top5"]) == (15, right, 15)
    [error] = counts["errors"]
    assert error["source"] == str(labelled / LABELS[1] / "broken.jpg")
    assert str(model_folder) in counts["model"]
    assert "broken.jpg" in result.err


def test_text_report(run, labelled: Path, model_folder: Path) -> None:
    result = run("evaluate", labelled, "--model", model_folder)
    assert result.status == 0
    assert "top-5  100.00 %  15 / 15" in result.out


def test_the_text_report_says_what_failed_and_what_is_not_counted(
    run, labelled: Path, model_folder: Path
) -> None:
    (labelled / LABELS[1] / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    picture = (labelled / LABELS[1] / "0.png").read_bytes()
    (labelled / "loose.png").write_bytes(picture)
    result = run("evaluate", labelled, "--model", model_folder)
    assert result.status == 1
    assert "failed 1\n" in result.out
    assert f"lushan: {labelled}: 1 pictures lie directly in it" in result.err
    assert "15 / 15" in result.out


def test_a_missing_class_is_fine_and_an_unknown_one_is_refused(
    run, labelled: Path, model_folder: Path
) -> None:
    (labelled / LABELS[0]).rename(labelled / "tabby")
    result = run("evaluate", labelled, "--model", model_folder)
    assert result.status == 2
    assert "1 of its folders are no classes of this model: tabby" in result.err
    assert "n03594945" in result.err
    (labelled / "tabby").rename(labelled / ".hidden")
    assert run("evaluate", labelled, "--model", model_folder).status == 0


def test_folders_that_cannot_be_evaluated(run, tmp_path: Path, model_folder: Path) -> None:
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, "no pictures in it")):
        result = run("evaluate", folder, "--model", model_folder)
        assert result.status == 2
        assert message in result.err


@pytest.mark.shared
@pytest.mark.parametrize(("depth", "top1", "top5"), [(20, 804, 990), (56, 825, 993)])
def test_cifar10(run, shared: Path, cifar_part: Path, depth: int, top1: int, top5: int) -> None:
    model = shared / f"weights/resnet{depth}-cifar10"
    result = run("evaluate", cifar_part, "--model", model, "--format", "json")
    assert result.status == 0, result.err
    counts = json.loads(result.out)
    assert counts["images"] == 1000
    # Counts of this part as ONNX Runtime gives them on the same pixels.
    assert abs(counts["top1"] - top1) <= 1
    assert abs(counts["top5"] - top5) <= 1
