"""A file is whole or not there, and nothing is left beside it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lushan.atomic_file import aside, replacing


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("old", [None, "old"])
def test_where_writing_fails_all_is_as_it_was(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "report.html"
    if old is not None:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [file.read_text() for file in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "report.html") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_two_threads_write_under_two_names(tmp_path: Path) -> None:
    """The one that has finished removes nothing of the other's."""
    names = [aside(tmp_path / "file")]
    other = threading.Thread(target=lambda: names.append(aside(tmp_path / "file")))
    other.start()
    other.join()
    assert len(set(names)) == 2
