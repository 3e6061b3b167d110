"""``lushan tour``: a page in a file, and one line for what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Run


def test_the_page_is_written(run: Run, pictures: Path, model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "tour.html"
    result = run("tour", pictures / "a.png", "-o", output, "-m", model_folder, "--lang", "zh")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{pictures / 'a.png'}  → {output}\n"
    html = output.read_text(encoding="utf-8")
    assert '<html lang="zh">' in html
    assert html.endswith("</html>\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "tour.html"]


BAD = {
    "no picture": (["nowhere.png"], 1, "nowhere.png: there is no such file"),
    "broken": (["broken.png"], 1, "broken.png: not a picture"),
    "no model": (["a.png", "-m", "nowhere"], 2, "nowhere: no such file or folder"),
    "suffix": (["a.png", "-o", "out.pdf"], 2, "out.pdf: name a file ending in .html, .htm"),
    "folder": (["a.png", "-o", "folder.html"], 2, "folder.html: a folder"),
    "nowhere": (["a.png", "-o", "no/out.html"], 2, "no such folder"),
    "several": (["."], 2, "2 pictures; tour takes one"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(refuses: Callable[..., None], kind: str) -> None:
    refuses("tour", ".html", BAD[kind])


def test_a_page_that_cannot_be_written_keeps_the_old_one(
    run: Run, pictures: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tour.html"
    output.write_text("old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    result = run("tour", pictures / "a.png", "-o", output, "-m", model_folder)
    assert result.status == 2
    assert result.err == f"lushan: {output}: cannot be written: No space left on device\n"
    assert output.read_bytes() == b"old"
