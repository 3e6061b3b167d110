"""Finding pictures: folders that cannot be read are told, nothing that never ends is opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lushan.errors import PictureError
from lushan.image.files import find_pictures, is_file


def test_only_files_are_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "c.gif").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe link.png").symlink_to("pipe.png")
    (tmp_path / "broken link.png").symlink_to("nowhere")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "round").symlink_to(".")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.png"))
        found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    # What leads nowhere is kept, so that reading it says so.
    assert found == ["a.png", "b.JPG", "broken link.png", "circle.png", "folder.png/c.gif"]
    assert not is_file("/dev/null")


def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.png").touch()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "closed":  # root, who may run the tests, may read everything
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    errors: list[PictureError] = []
    assert list(find_pictures(tmp_path, on_error=errors.append)) == [tmp_path / "open.png"]
    message = f"{tmp_path / 'closed'}: this folder cannot be read (Permission denied)"
    assert [str(error) for error in errors] == [message]
    with pytest.raises(PictureError, match="this folder cannot be read"):
        list(find_pictures(tmp_path))
