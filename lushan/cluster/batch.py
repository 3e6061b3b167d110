"""``run_batch``: every picture of an archive recognised exactly once, whatever dies meanwhile.

The list of pictures is pinned and cut into parts (``job``). Workers, one recognizer each, answer
parts (``worker``); this process alone writes them, aside and then renamed, so a part is there
whole or not at all, once. Who is killed at any moment loses the parts at work and nothing else.

Why Ray's actors and not Ray Data: there, the engine cuts the blocks, and its tasks, which are
repeated when they fail, write them. Here the same pictures must be in the same file in every
attempt, one process writes, and the one picture that kills its reader must be found
(``schedule``). That is a hundred lines over actors. What Ray Data has beyond them, operators in a
row and a place for what flows between, has no use where a path goes in and a few hundred bytes come
out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lushan import __version__
from lushan.cluster.job import Job, Settings, fingerprint
from lushan.cluster.local_ray import settle
from lushan.cluster.schedule import Schedule
from lushan.cluster.sources import list_pictures
from lushan.cluster.storage import Folder
from lushan.cluster.worker import portable
from lushan.errors import MissingExtraError, UsageError
from lushan.models.zoo import DEFAULT, Model, load_model
from lushan.recognizer import Recognizer

PART = 1000
"""Pictures in a part: what a crash costs each worker, at most, and what a file has."""


@dataclass(frozen=True)
class Summary:
    """What a batch came to; a run that resumes counts all pictures, and times its own."""

    pictures: int  # all of them: each has its row now
    errors: int  # those whose row has an error
    done_before: int  # answered by earlier runs
    workers: int  # 0 where nothing was left to do
    threads: int  # of each worker
    deaths: int  # workers that died and were replaced
    listing_seconds: float  # finding or reading the list
    starting_seconds: float  # until all workers were ready
    recognising_seconds: float
    pictures_per_second: float  # answered by this run while it recognised
    output: str


def run_batch(
    sources: Sequence[str],
    output: str,
    *,
    model: str = DEFAULT,
    address: str | None = None,
    workers: int | None = None,
    top: int | None = None,
    lang: str = "en",
    column: str | None = None,
    part: int = PART,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Recognise the pictures that ``sources`` name and write the answers to the folder ``output``.

    ``sources`` are folders, globs, files, addresses of buckets and columns of Parquet files
    (``lushan.cluster.sources``); ``output`` is a folder, or the address of one, for Parquet files
    (``lushan.cluster.part``). ``address`` is that of a Ray cluster, on whose machines lushan is
    installed and the paths lead to the same files; None starts Ray here. ``workers`` is how many
    recognizers there are, None for one on each core; each gets its share of the cores. ``resume``
    goes on with what ``output`` has of the same job. ``progress`` is called with (done, all).

    Raises UsageError for a call that cannot be right, ModelError for the model, ClusterError where
    Ray cannot be used or workers keep dying. A picture that fails is a row, not an error.
    """
    if find_spec("ray") is None:  # before the list, which may take an hour
        raise MissingExtraError(
            'to run batches, an extra is needed: pip install "lushan[cluster]" (missing: {module})',
            module="ray",
        )
    if type(part) is not int or part < 1:
        raise UsageError("part should be 1 or more; received {value!r}", value=part)
    if workers is not None and (type(workers) is not int or workers < 1):
        raise UsageError("workers should be 1 or more; received {value!r}", value=workers)
    loaded = portable(load_model(model))
    with Recognizer(loaded, threads=1) as recognizer:  # compiles for all workers of this machine
        top = recognizer.check_top(top, lang)
    settings = Settings(
        lushan=__version__,
        model=model,
        fingerprint=fingerprint(loaded),
        top=top,
        lang=lang,
        sources=list(sources),
        column=column,
        part=part,
    )
    began = time.perf_counter()
    job = _job(output, settings, resume)
    listing = time.perf_counter() - began
    return _recognise(
        job, loaded, address, workers, listing, progress or (lambda done, total: None)
    )


def _recognise(
    job: Job,
    model: Model,
    address: str | None,
    workers: int | None,
    listing: float,
    progress: Callable[[int, int], None],
) -> Summary:
    """Have what is left of a job recognised, and sum up; ``listing`` is how long its list took."""
    began = time.perf_counter()
    manifest, done = job.manifest, job.done()
    before = sum(manifest.rows[number] for number in done)
    answered, errors = 0, sum(done.values())
    listing += time.perf_counter() - began
    place = job.folder.place
    if before == manifest.pictures:
        return Summary(manifest.pictures, errors, before, 0, 0, 0, listing, 0.0, 0.0, 0.0, place)
    if address is None:
        settle()
    from lushan.cluster.ray_pool import RayPool, cluster, share_of_cores

    def tell(count: int) -> None:
        nonlocal answered
        answered += count
        progress(before + answered, manifest.pictures)

    def finish(number: int, table: object) -> None:
        nonlocal errors
        errors += job.write(number, table)

    began = time.perf_counter()
    with cluster(address, model.weight_bytes):
        count, threads = share_of_cores(workers, len(manifest.rows) - len(done))
        settings = manifest.settings
        pool = RayPool(count, threads, model, settings.top, settings.lang, manifest.folder)
        starting = time.perf_counter() - began
        tell(0)
        schedule = Schedule(pool, finish, tell, settings.lang)
        schedule.run(job.parts(done))
        seconds = time.perf_counter() - began - starting
    return Summary(
        pictures=manifest.pictures,
        errors=errors,
        done_before=before,
        workers=count,
        threads=threads,
        deaths=schedule.deaths,
        listing_seconds=listing,
        starting_seconds=starting,
        recognising_seconds=seconds,
        pictures_per_second=answered / seconds,
        output=place,
    )


def _job(output: str, settings: Settings, resume: bool) -> Job:
    """Return the job in ``output``: the one to resume, or a new one."""
    folder = Folder(output)
    job = Job.find(folder)
    if job is None:
        pictures = list_pictures(settings.sources, settings.column)
        return Job.begin(folder, settings, str(Path.cwd()), pictures)
    if not resume:
        raise UsageError(
            "{place}: there is a batch in it already; go on with it by --resume, or name a new "
            "folder",
            place=output,
        )
    job.check(settings)
    return job
