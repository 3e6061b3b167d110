"""A worker's answers are those of the command line and the API, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

import lushan
from lushan.cluster.entries import files_table, rows_table
from lushan.cluster.sources import list_pictures
from lushan.cluster.worker import Worker, portable
from lushan.image.files import find_pictures
from lushan.models.zoo import load_model


@pytest.fixture
def worker(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return a worker whose paths are relative to ``tmp_path``."""
    monkeypatch.chdir(tmp_path)  # and back after the test
    worker = Worker()
    worker.prepare(portable(load_model(model_folder)), 1, 3, "en", str(tmp_path))
    return worker


def rows(worker: Worker, *words: object) -> list[dict[str, Any]]:
    stretches = list_pictures([str(word) for word in words])
    table = worker.recognise(pa.concat_tables([stretch.entries for stretch in stretches]))
    return table.to_pylist()


def test_pictures_in_files(archive: Path, model_folder: Path, worker: Worker) -> None:
    found = rows(worker, archive.name)
    paths = [str(Path(archive.name, *path.parts[-2:])) for path in find_pictures(archive)]
    assert [row["path"] for row in found] == paths
    with lushan.load(model_folder) as recognizer:
        for row, path in zip(found, paths, strict=True):
            try:
                answer = recognizer.classify(path, top=3).to_dict()
            except lushan.LushanError as error:
                assert (row["error"], row["predictions"], row["input"]) == (str(error), None, None)
            else:
                assert {key: row[key] for key in ("predictions", "input")} == answer
                assert row["error"] is None
    assert sum(row["error"] is not None for row in found) == 3


def test_the_same_pictures_from_anywhere(archive: Path, tmp_path: Path, worker: Worker) -> None:
    paths = list(find_pictures(archive))
    content = [path.read_bytes() for path in paths]
    table = pa.table(
        {"image": [{"bytes": data} for data in content], "path": list(map(str, paths))}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    here = rows(worker, archive)
    for word in ("a.parquet:image.bytes", "a.parquet:path", f"file://{archive}"):
        there = rows(worker, word)
        assert [row["predictions"] for row in there] == [row["predictions"] for row in here]
        assert [row["error"] is None for row in there] == [row["error"] is None for row in here]
    (row,) = rows(worker, "a.parquet:image.bytes")[3:4]
    assert row["path"] == row["input"]["source"] == "a.parquet:image.bytes[3]"
    assert row["row"] == 3


def test_rows_that_cannot_be_had(tmp_path: Path, archive: Path, worker: Worker) -> None:
    picture = (archive / "0" / "00.png").read_bytes()
    pq.write_table(pa.table({"image": [picture, None, b""]}), tmp_path / "a.parquet")
    entries = [
        rows_table(None, b"a.parquet", "image", 0, 5),
        rows_table(None, b"a.parquet", "image", 0, 1),  # the same file once more
        rows_table(None, b"gone.parquet", "image", 0, 2),
        files_table([(None, b"gone.png"), ("file:///", str(tmp_path).encode()), (None, b"")]),
    ]
    found = worker.recognise(pa.concat_tables(entries)).to_pylist()
    reasons = [row["error"] and row["error"].split(": ", 1)[-1] for row in found]
    assert reasons[:6] == [
        None,
        "the row is empty",
        "the file is empty",
        "the file ends before this row",
        "the file ends before this row",
        None,
    ]
    assert all("cannot be read as a Parquet file" in reason for reason in reasons[6:8])
    assert reasons[8] == "there is no such file"
    assert "cannot be read" in reasons[9]
    assert reasons[10] == "the path of a picture is empty"


def test_a_part_begins_anywhere_in_a_file(tmp_path: Path, archive: Path, worker: Worker) -> None:
    content = [(archive / "0" / f"{n:02}.png").read_bytes() for n in range(0, 12, 2)]
    pq.write_table(pa.table({"image": content}), tmp_path / "a.parquet", row_group_size=2)
    whole = worker.recognise(rows_table(None, b"a.parquet", "image", 0, 6))
    for start in range(6):
        for stop in range(start + 1, 7):
            part = worker.recognise(rows_table(None, b"a.parquet", "image", start, stop))
            assert part == whole.slice(start, stop - start)
