"""What the words of a batch stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from lushan.cluster.entries import each
from lushan.cluster.sources import list_pictures
from lushan.errors import UsageError
from lushan.image.files import find_pictures


def names(*words: object, column: str | None = None) -> list[str]:
    stretches = list_pictures([str(word) for word in words], column)
    return [entry.name for stretch in stretches for entry in each(stretch.entries)]


def test_folders_and_globs_are_listed_once_and_in_order(archive: Path) -> None:
    expected = [str(path) for path in find_pictures(archive)]
    assert names(archive) == expected
    assert len(expected) == 15
    assert names(archive, archive / "1", f"{archive}/0/*.png") == expected
    assert names(archive / "*" / "*.png") == [name for name in expected if name.endswith("png")]


def test_a_bucket_is_listed_as_a_folder_is(archive: Path) -> None:
    """The file system of this machine, asked for by address, stands in for a bucket."""
    (archive / ".hidden").mkdir()
    (archive / ".hidden" / "a.png").touch()
    (archive / "notes.txt").touch()
    odd = archive / "100 % of #1?.png"
    odd.touch()
    found = names(f"file://{archive}")
    assert sorted(found) == sorted(f"file://{path}" for path in find_pictures(archive))
    assert f"file://{odd}" in found
    assert names(f"file://{archive}/0/00.png") == [f"file://{archive}/0/00.png"]


def test_columns_of_paths_and_of_bytes(archive: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in find_pictures(archive)]
    content = [Path(path).read_bytes() for path in paths]
    image = [{"bytes": data, "path": None} for data in content]
    table = pa.table({"file": [*paths[:-1], None], "data": content, "image": image, "id": [1] * 15})
    file = tmp_path / "archive.parquet"
    pq.write_table(table, file, row_group_size=4)
    assert names(f"{file}:file") == [*paths[:-1], ""]
    assert names(file, column="file") == [*paths[:-1], ""]
    assert names(f"{tmp_path}/*.parquet:data") == [f"{file}:data[{row}]" for row in range(15)]
    assert names(f"file://{file}:image.bytes")[3] == f"file://{file}:image.bytes[3]"
    stretches = list(list_pictures([f"{file}:data"]))
    assert [(len(s.entries), s.whole) for s in stretches] == [(4, True)] * 3 + [(3, True)]
    with pytest.raises(UsageError, match=r"no column 'nothing'; its columns are file, data, image"):
        names(f"{file}:nothing")
    with pytest.raises(UsageError, match="values of type int64; pictures are bytes"):
        names(f"{file}:id")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere", "nowhere: there is no such file or folder"),
        ("nowhere*.jpg", r"nowhere\*.jpg: no pictures there"),
        ("http://example.org/a.jpg", "http://example.org: pyarrow cannot open this address"),
        ("text.parquet:image", "text.parquet: cannot be read as a Parquet file"),
        ("empty", "empty: no pictures there"),
    ],
)
def test_words_that_name_nothing(
    word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.parquet").write_text("not Parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        names(word)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (stretch,) = list_pictures([str(tmp_path)])
    (entry,) = each(stretch.entries)
    assert entry.location == path
    assert entry.name == f"{tmp_path}/caf\\udce9.png"
