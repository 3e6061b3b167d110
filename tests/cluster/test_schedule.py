"""Parts given to workers that die: everything is answered, and what kills is found."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from lushan.cluster.entries import files_table
from lushan.cluster.schedule import Schedule
from lushan.errors import ClusterError
from lushan.image.files import find_pictures
from support.local_pool import LocalPool


def run(pool: LocalPool, archive: Path, size: int = 6) -> tuple[dict[int, Any], int, Schedule]:
    """Return the tables of the parts, how many pictures progress was told of, and the schedule."""
    files = [(None, str(path).encode()) for path in find_pictures(archive)]
    parts = [
        (number, files_table(files[start : start + size]))
        for number, start in enumerate(range(0, len(files), size))
    ]
    finished: dict[int, Any] = {}
    told: list[int] = []

    def finish(number: int, table: Any) -> None:
        assert number not in finished
        finished[number] = table

    schedule = Schedule(pool, finish, told.append)
    schedule.run(parts)
    return finished, sum(told), schedule


def paths(finished: dict[int, Any]) -> list[str]:
    return [path for _, table in sorted(finished.items()) for path in table["path"].to_pylist()]


def test_every_part_is_answered_in_its_order(archive: Path, model_folder: Path) -> None:
    finished, told, _ = run(LocalPool(2, model_folder), archive)
    assert paths(finished) == list(map(str, find_pictures(archive)))
    assert told == 15
    assert [len(finished[number]) for number in range(3)] == [6, 6, 3]


def test_random_deaths_change_nothing(archive: Path, model_folder: Path) -> None:
    calm, _, _ = run(LocalPool(2, model_folder), archive)
    moments = random.Random(3)
    pool = LocalPool(2, model_folder, lambda names: len(names) > 1 and moments.random() < 0.8)
    finished, told, schedule = run(pool, archive)
    assert schedule.deaths > 2
    assert told == 15
    assert finished == calm


@pytest.mark.parametrize("at", [0, 7, 14])
def test_the_picture_that_kills_is_found(archive: Path, model_folder: Path, at: int) -> None:
    calm, _, _ = run(LocalPool(2, model_folder), archive)
    expected = list(map(str, find_pictures(archive)))
    pool = LocalPool(2, model_folder, lambda names: expected[at] in names)
    finished, told, _ = run(pool, archive)
    assert paths(finished) == expected
    assert told == 15
    rows = [row for _, table in sorted(finished.items()) for row in table.to_pylist()]
    others = [row for _, table in sorted(calm.items()) for row in table.to_pylist()]
    assert rows[at]["error"] == f"{expected[at]}: the process that reads it fails (killed)"
    assert rows[:at] + rows[at + 1 :] == others[:at] + others[at + 1 :]


def test_a_job_where_everything_dies_ends(archive: Path, model_folder: Path) -> None:
    pool = LocalPool(1, model_folder, lambda names: True)
    with pytest.raises(ClusterError, match=r"workers failed 51 times in a row .* killed"):
        run(pool, archive, size=15)
    assert len(pool.given) == 51
