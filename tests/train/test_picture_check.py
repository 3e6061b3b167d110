"""The check before training: it names what is broken or twice there, and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lushan.errors import PictureError
from lushan.image.decode import decode
from lushan.train.dataset import Sample, open_image_folder
from lushan.train.picture_check import PictureStore, check_pictures, relative_name
from support.training_data import write_pictures


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("threads", [1, 4])
def test_it_names_what_is_broken_or_twice_there(tmp_path: Path, threads: int) -> None:
    root = write_pictures(tmp_path / "d", 100)
    broken = root / "green" / "050.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (root / "red" / "empty.jpg").touch()
    shutil.copy(root / "red" / "001.png", root / "blue" / "copy.png")
    decode(root / "red" / "002.png").image.save(root / "red" / "again.bmp")  # another file, same
    before = contents(root)
    samples = open_image_folder(root).train
    seen: list[tuple[int, int]] = []
    check = check_pictures(
        samples, PictureStore(10**9), threads=threads, progress=lambda *at: seen.append(at)
    )
    assert contents(root) == before
    assert seen[-1] == (304 - 1, 304 - 1) == (len(samples), len(samples))
    named = {source: str(error) for source, error in check.unreadable}
    assert named.keys() == {str(broken), str(root / "red" / "empty.jpg")}
    assert "damaged" in named[str(broken)]
    assert "the file is empty" in named[str(root / "red" / "empty.jpg")]
    assert {
        tuple(relative_name(sample.path, root) for sample in group) for group in check.duplicates
    } == {("blue/copy.png", "red/001.png"), ("red/002.png", "red/again.bmp")}
    assert len(check.readable) == len(check.hashes) == 301


def test_the_fingerprint_tells_pictures_labels_and_names(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "d", 2)

    def fingerprint(folder: Path) -> str:
        samples = open_image_folder(folder).train
        return check_pictures(samples, PictureStore(0)).fingerprint(folder)

    first = fingerprint(root)
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    assert fingerprint(moved) == first
    (moved / "red" / "000.png").rename(moved / "red" / "002.png")
    assert fingerprint(moved) != first
    (moved / "red" / "002.png").rename(moved / "red" / "000.png")
    assert fingerprint(moved) == first
    shutil.copy(moved / "red" / "001.png", moved / "red" / "000.png")
    assert fingerprint(moved) != first


def test_the_store_keeps_what_fits(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "d", 4, size=16)
    paths = [sample.path for sample in open_image_folder(root).train]
    store = PictureStore(5 * 16 * 16 * 3)
    pictures = [store(path) for path in paths]
    assert len(store) == 5
    for path, pixels in zip(paths, pictures, strict=True):
        np.testing.assert_array_equal(store(path), decode(path).pixels)
        with pytest.raises(ValueError, match="read-only"):
            pixels[0] = 0
    assert store(paths[0]) is pictures[0]
    assert store(paths[-1]) is not pictures[-1]
    with pytest.raises(PictureError, match="no such file"):
        store(root / "nothing.png")


def test_no_pictures() -> None:
    check = check_pictures((), PictureStore(0))
    assert (check.readable, check.duplicates) == ((), ())


def test_a_name_in_a_record(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "a" / "b.png", 0)
    assert relative_name(sample.path, tmp_path) == "a/b.png"
    assert relative_name(sample.path, tmp_path / "c").endswith("/a/b.png")
