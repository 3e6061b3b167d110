"""The folder of a batch: parts, the manifest, what counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from lushan.cluster import job as jobs
from lushan.cluster.entries import each, files_table, rows_table
from lushan.cluster.job import Job, Settings, fingerprint, part_name
from lushan.cluster.part import to_table
from lushan.cluster.sources import Stretch
from lushan.cluster.storage import Folder
from lushan.errors import PictureError, UsageError
from lushan.models.zoo import load_model
from support.small_models import write_small_model

SETTINGS = Settings("1", "default", "abc", 5, "en", ["pictures"], None, 4)


def begin(place: object, *pictures: Stretch, base: str = "/") -> Job:
    folder = Folder(str(place))
    folder.make()
    return Job.begin(folder, SETTINGS, base, pictures)


def stretch(count: int, start: int = 0) -> Stretch:
    numbers = range(start, start + count)
    return Stretch(files_table([(None, f"{n:03}.jpg".encode()) for n in numbers]), whole=False)


def names(job: Job) -> list[list[str]]:
    return [[entry.name for entry in each(entries)] for _, entries in job.parts({})]


@pytest.fixture(params=["here", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a folder for answers, as a path and as an address."""
    return f"{'file://' if request.param == 'bucket' else ''}{tmp_path}/answers"


def test_the_list_is_cut_into_parts(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PARTS_OF_A_LIST", 2)
    begun = begin(place, stretch(3), stretch(8, 3))
    assert begun.manifest.rows == [4, 4, 3]
    found = Job.find(Folder(place))
    assert found is not None
    assert found.manifest == begun.manifest
    assert [name for part in names(found) for name in part] == [f"{n:03}.jpg" for n in range(11)]
    assert [number for number, _ in found.parts({1: 0})] == [0, 2]


def test_row_groups_stay_whole(tmp_path: Path) -> None:
    rows = [Stretch(rows_table(None, b"a", "c", n, n + 3), whole=True) for n in (0, 3, 6)]
    big = Stretch(rows_table(None, b"b", "c", 0, 11), whole=True)
    begun = begin(tmp_path, *rows, stretch(2), big)
    assert begun.manifest.rows == [6, 4, 12]
    assert names(begun)[1] == ["a:c[6]", "a:c[7]", "a:c[8]", "000.jpg"]


def answers(job: Job, number: int, failed: int) -> pa.Table:
    entries = [entry for n, table in job.parts({}) if n == number for entry in each(table)]
    errors = [PictureError("{source}: the file is empty", source=e.name) for e in entries]
    table = to_table(entries, errors, "en")
    keep = [error if index < failed else None for index, error in enumerate(table["error"])]
    return table.set_column(4, "error", pa.array([k and k.as_py() for k in keep], pa.string()))


def test_done_is_what_is_there_whole(place: str, tmp_path: Path) -> None:
    begun = begin(place, stretch(11))
    assert begun.done() == {}
    assert begun.write(0, answers(begun, 0, 3)) == 3
    assert begun.write(2, answers(begun, 2, 0)) == 0
    found = Job.find(Folder(place))
    assert found is not None
    assert found.done() == {0: 3, 2: 0}
    part = tmp_path / "answers" / part_name(0)
    part.write_bytes(part.read_bytes()[:-9])  # damaged: done again
    (tmp_path / "answers" / ".part-00000001.parquet.77.tmp").write_bytes(b"killed while writing")
    found = Job.find(Folder(place))
    assert found is not None
    assert found.done() == {2: 0}
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == [
        "_list-00000.parquet",
        "_manifest.json",
        part_name(0),
        part_name(2),
    ]


def test_a_part_of_another_job_is_not_done(tmp_path: Path) -> None:
    one, other = (begin(tmp_path / name, stretch(4), base=name) for name in "ab")
    (tmp_path / "a").joinpath(part_name(0)).touch()
    other.write(0, answers(other, 0, 0))
    (tmp_path / "b" / part_name(0)).replace(tmp_path / "a" / part_name(0))
    assert one.done() == {}


def test_answers_read_as_one_data_set(tmp_path: Path) -> None:
    begun = begin(tmp_path, stretch(11))
    for number in range(3):
        begun.write(number, answers(begun, number, 1))
    table = pq.read_table(tmp_path)
    assert sorted(table["path"].to_pylist()) == [f"{n:03}.jpg" for n in range(11)]


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    with pytest.raises(UsageError, match=r"something in it already \(a.txt\)"):
        Job.find(Folder(str(tmp_path / "full")))
    with pytest.raises(UsageError, match="cannot be used as the folder of the answers"):
        Job.find(Folder(str(tmp_path / "full" / "a.txt")))
    begun = begin(tmp_path / "job", stretch(4))
    begun.check(SETTINGS)
    other = Settings(**{**vars(SETTINGS), "fingerprint": "abd"})
    with pytest.raises(UsageError, match="begun with fingerprint 'abc', and cannot go on with"):
        begun.check(other)
    (tmp_path / "job" / "_manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"its _manifest.json cannot be used"):
        Job.find(Folder(str(tmp_path / "job")))


def test_a_list_without_manifest_is_no_job_yet(tmp_path: Path) -> None:
    begin(tmp_path, stretch(4))
    (tmp_path / "_manifest.json").unlink()
    assert Job.find(Folder(str(tmp_path))) is None


def test_the_fingerprint_knows_weights_and_names(tmp_path: Path, model_folder: Path) -> None:
    mine = fingerprint(load_model(model_folder))
    assert fingerprint(load_model(write_small_model(tmp_path / "same"))) == mine
    labels = {"label_names": ("n01443537", "n02123045", "n03594945")}
    assert fingerprint(load_model(write_small_model(tmp_path / "named", **labels))) != mine
