"""``run_batch`` from end to end: with workers in this process, and once with Ray.

Ray is large and takes seconds to start; the tests that need it are skipped where it is absent.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet as pq

from lushan.cluster import batch
from lushan.cluster.batch import Summary, run_batch
from lushan.errors import MissingExtraError, ModelError, UsageError
from lushan.evaluation import evaluate
from lushan.image.files import find_pictures
from lushan.recognizer import load
from support.local_pool import LocalPool


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> types.SimpleNamespace:
    """Put workers of this process in the place of Ray's; ``kills`` says what they die of."""
    control = types.SimpleNamespace(kills=lambda names: False)

    def pool(workers: int, cores: int, model: Any, *preparation: Any) -> LocalPool:
        return LocalPool(workers, model_folder, lambda names: control.kills(names))  # noqa: PLW0108

    @contextlib.contextmanager
    def cluster(address: str | None, weight_bytes: int) -> Iterator[None]:
        yield

    module = types.ModuleType("lushan.cluster.ray_pool")
    vars(module).update(
        RayPool=pool, cluster=cluster, share_of_cores=lambda workers, parts: (workers or 1, 1)
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(batch, "find_spec", lambda name: True)
    monkeypatch.setattr(batch, "settle", lambda: None)
    return control


def rows(output: Path) -> list[dict[str, Any]]:
    return pq.read_table(output).to_pylist()


def test_a_batch_is_resumed(here, archive: Path, tmp_path: Path, model_folder: Path) -> None:
    output = tmp_path / "answers"
    told: list[tuple[int, int]] = []

    def stopped(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 8:
            raise KeyboardInterrupt

    def run(**options: Any) -> Summary:
        return run_batch(
            [str(archive)], str(output), model=str(model_folder), part=4, workers=2, **options
        )

    with pytest.raises(KeyboardInterrupt):
        run(progress=stopped)
    assert told[-1] == (8, 15)
    with pytest.raises(UsageError, match="there is a batch in it already; go on with it by"):
        run()
    with pytest.raises(UsageError, match="begun with top 3, and cannot go on with 2"):
        run(top=2, resume=True)
    Path(rows(output)[0]["path"]).unlink()  # of a part that is done
    (archive / "0" / "later.png").touch()  # not in the list
    here.kills = lambda names: len(names) == 3  # the last part, as a whole
    told.clear()
    summary = run(resume=True, progress=lambda done, total: told.append((done, total)))
    assert summary.pictures == 15
    assert summary.done_before == 4
    assert summary.errors == 3
    assert summary.deaths == 2
    assert told[0] == (4, 15)
    assert told[-1] == (15, 15)
    answers = rows(output)
    assert len({row["path"] for row in answers}) == len(answers) == 15
    assert sum(row["error"] is not None for row in answers) == 3
    again = run(resume=True)
    assert (again.done_before, again.errors, again.workers) == (15, 3, 0)


def test_right_answers_count_as_in_an_evaluation(
    here, archive: Path, tmp_path: Path, model_folder: Path
) -> None:
    """The names of the folders say what is on the pictures, broken files count for neither."""
    with load(model_folder) as recognizer:
        names = recognizer.labels.names
        for number, folder in enumerate(sorted(archive.iterdir())):
            folder.rename(archive / names[number])
        whole = evaluate(recognizer, archive)
    output = tmp_path / "answers"
    summary = run_batch([str(archive)], str(output), model=str(model_folder), part=4, top=3)
    answered = [row for row in rows(output) if row["error"] is None]
    ranks = [
        [one["label"] for one in row["predictions"]].index(name)
        for row in answered
        for name in [Path(row["path"]).parent.name]
        if name in [one["label"] for one in row["predictions"]]
    ]
    assert (len(answered), summary.errors) == (whole.images, len(whole.errors)) == (12, 3)
    assert (ranks.count(0), len(ranks)) == (whole.top1, whole.top5)
    assert 0 < whole.top1 < 12  # the network is wrong, and right, now and then


def test_calls_that_are_wrong(here, archive: Path, tmp_path: Path, model_folder: Path) -> None:
    def run(**options: Any) -> None:
        run_batch([str(archive)], str(tmp_path / "out"), **{"model": str(model_folder), **options})

    with pytest.raises(UsageError, match="part should be 1 or more; received 0"):
        run(part=0)
    with pytest.raises(UsageError, match="workers should be 1 or more; received 0"):
        run(workers=0)
    with pytest.raises(UsageError, match="top should be between 1 and 3"):
        run(top=4)
    with pytest.raises(ModelError, match="no such file or folder"):
        run(model="nowhere")
    assert not (tmp_path / "out").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "lushan\[cluster\]" \(missing: ray'):
        run_batch([str(tmp_path)], str(tmp_path / "out"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_with_ray_the_answers_are_those_of_the_command_line(
    archive: Path, tmp_path: Path, model_folder: Path
) -> None:
    def lushan(*words: object, status: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from lushan.cli import main; main()", *map(str, words)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == status, result.stderr
        return result

    output = tmp_path / "answers"
    common = ("--model", model_folder, "--top", 2, "--format", "json", "--lang", "en")
    arguments = ("batch", archive, "-o", output, "--part", 4, *common)
    summary = json.loads(lushan(*arguments, status=1).stdout)
    assert (summary["pictures"], summary["errors"], summary["done_before"]) == (15, 3, 0)
    assert summary["workers"] >= 1
    records = json.loads(lushan("classify", archive, *common, status=1).stdout)
    expected = {
        record.pop("source"): {"predictions": None, "input": None, "error": None, **record}
        for record in records
    }
    found = {row.pop("path"): row for row in rows(output)}
    assert len(rows(output)) == 15
    assert {name: {**row, "row": None} for name, row in expected.items()} == found
    assert set(found) == set(map(str, find_pictures(archive)))
    (output / "part-00000001.parquet").unlink()
    resumed = json.loads(lushan(*arguments, "--resume", status=1).stdout)
    assert (resumed["done_before"], resumed["errors"]) == (11, 3)
    assert {row.pop("path"): row for row in rows(output)} == found
    wrong = lushan(*arguments[:-6], "--workers", 10_000, "--resume", *common, status=1)
    assert wrong.stderr == ""  # nothing is left to do, and so nobody is asked
