"""The folder of a batch: what is to be done, pinned, and which of it is done.

::

    OUT/_list-00000.parquet      where every picture lies; a row group is a part, a file 1000 parts
    OUT/_manifest.json           settings and model, written last: from here on it is a job
    OUT/part-00000000.parquet    the answers to one part, there whole or not at all

Readers of Parquet folders pass over names that begin with an underscore. Who resumes a job reads
its list, so the pictures of a part are the same whatever has changed in the folders meanwhile,
and a part is done exactly if its file is there: nothing else is remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lushan.cluster.entries import SCHEMA
from lushan.cluster.part import count_errors, errors_in_file, to_file
from lushan.cluster.sources import Stretch
from lushan.cluster.storage import Folder
from lushan.errors import UsageError
from lushan.models.zoo import Model

PARTS_OF_A_LIST = 1000
_MANIFEST = "_manifest.json"
_READERS = 16  # footers read at once: each is a trip to the bucket


@dataclass(frozen=True)
class Settings:
    """What the answers depend on, and so what may not change when a job is resumed."""

    lushan: str  # version
    model: str  # name
    fingerprint: str  # of the model
    top: int
    lang: str
    sources: list[str]
    column: str | None
    part: int  # pictures


@dataclass(frozen=True)
class Manifest:
    """A job: its settings, the folder that its paths are relative to, and its size."""

    settings: Settings
    folder: str
    pictures: int
    rows: list[int]  # of each part

    @property
    def name(self) -> str:
        """A name that no other job has: every file of answers carries it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]


def fingerprint(model: Model) -> str:
    """Return what tells a model from every other: its weights, names and preprocessing."""
    whole = hashlib.blake2b(digest_size=16)
    whole.update(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    whole.update(json.dumps(model.labels.names).encode())
    for name in sorted(model.weights):
        array = model.weights[name]
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


class Job:
    """A batch in its folder."""

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def find(cls, folder: Folder) -> Job | None:
        """Return the job that is in ``folder``; None where there is none, nor anything else.

        Raises UsageError for a folder with other things in it.
        """
        folder.make()
        folder.sweep()
        names = folder.names()
        if _MANIFEST in names:
            try:
                with folder.open(_MANIFEST) as file:
                    values = json.loads(file.read())
                settings = Settings(**values.pop("settings"))
                return cls(folder, Manifest(settings, **values))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise UsageError(
                    "{place}: its {file} cannot be used ({reason}); begin in another folder",
                    place=folder.place,
                    file=_MANIFEST,
                    reason=" ".join(str(error).split()),
                ) from None
        # A list without a manifest is what a job leaves that was stopped before it began.
        foreign = sorted(name for name in names if not name.startswith("_list-"))
        if foreign:
            raise UsageError(
                "{place}: there is something in it already ({name}), and it is no batch; name a "
                "new folder",
                place=folder.place,
                name=foreign[0],
            )
        return None

    @classmethod
    def begin(
        cls, folder: Folder, settings: Settings, base: str, pictures: Iterable[Stretch]
    ) -> Job:
        """Write the list of ``pictures`` and the manifest. Raises UsageError."""
        parts = _cut(pictures, settings.part)
        rows: list[int] = []
        while some := list(islice(parts, PARTS_OF_A_LIST)):
            sink = pa.BufferOutputStream()
            with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
                for part in some:
                    writer.write_table(part, row_group_size=len(part))
            folder.write(_list_name(len(rows) // PARTS_OF_A_LIST), sink.getvalue().to_pybytes())
            rows += map(len, some)
        manifest = Manifest(settings, base, sum(rows), rows)
        folder.write(_MANIFEST, json.dumps(asdict(manifest)).encode())
        return cls(folder, manifest)

    def check(self, wanted: Settings) -> None:
        """Raise UsageError where a job is to be resumed with other settings than its own."""
        mine, theirs = asdict(self.manifest.settings), asdict(wanted)
        for name, value in mine.items():
            if theirs[name] != value:
                raise UsageError(
                    "{place}: was begun with {name} {mine!r}, and cannot go on with {theirs!r}; "
                    "name a new folder, or the same {name}",
                    place=self.folder.place,
                    name=name,
                    mine=value,
                    theirs=theirs[name],
                )

    def done(self) -> dict[int, int]:
        """Return the parts that are done, and how many pictures of each failed."""
        names = set(self.folder.names())
        there = [n for n in range(len(self.manifest.rows)) if part_name(n) in names]
        with ThreadPoolExecutor(_READERS) as readers:
            errors = list(readers.map(self._errors_of, there))
        return {
            number: count for number, count in zip(there, errors, strict=True) if count is not None
        }

    def _errors_of(self, number: int) -> int | None:
        with self.folder.open(part_name(number)) as file:
            return errors_in_file(file, self.manifest.name, self.manifest.rows[number])

    def parts(self, done: dict[int, int]) -> Iterator[tuple[int, Any]]:
        """Yield number and entries of each part that is not done."""
        count = len(self.manifest.rows)
        for first in range(0, count, PARTS_OF_A_LIST):
            numbers = range(first, min(first + PARTS_OF_A_LIST, count))
            left = [number for number in numbers if number not in done]
            if left:
                with self.folder.open(_list_name(first // PARTS_OF_A_LIST)) as file:
                    opened = pq.ParquetFile(file)
                    for number in left:
                        yield number, opened.read_row_group(number - first).cast(SCHEMA)

    def write(self, number: int, table: Any) -> int:
        """Write the answers to one part; return how many of its pictures failed."""
        self.folder.write(part_name(number), to_file(table, self.manifest.name))
        return count_errors(table)


def part_name(number: int) -> str:
    """Return the name of the file of a part."""
    return f"part-{number:08}.parquet"


def _list_name(number: int) -> str:
    return f"_list-{number:05}.parquet"


def _cut(pictures: Iterable[Stretch], size: int) -> Iterator[Any]:
    """Cut the list into parts of ``size`` pictures; a whole stretch stays in one, however long."""
    waiting: list[Any] = []
    for table, whole in pictures:
        rest = table
        while len(rest):
            room = max(1, size - sum(map(len, waiting)))
            taken = rest if whole else rest.slice(0, room)
            rest = rest.slice(len(taken))
            waiting.append(taken)
            if sum(map(len, waiting)) >= size:
                yield pa.concat_tables(waiting).unify_dictionaries().combine_chunks()
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries().combine_chunks()
