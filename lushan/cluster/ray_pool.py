"""Workers as actors of Ray, here or on a cluster: the only file that imports Ray.

Without an address Ray is started on this machine for this job alone, as ``local_ray`` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from lushan.cluster.schedule import Failure
from lushan.cluster.worker import Worker
from lushan.cores import usable_cores
from lushan.errors import ClusterError, LushanError, UsageError

_STARTS = 5  # times that a worker may die before it is ready
_MEMORY = 128 * 2**20  # for lists and answers on their way, beside the model


@contextmanager
def cluster(address: str | None, weight_bytes: int) -> Iterator[None]:
    """Be connected to Ray at ``address``, or to one that is started here and ends with this.

    Raises ClusterError where it cannot be reached or started.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=_MEMORY + 2 * weight_bytes,
                **quiet,
            )
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            "Ray at {address} cannot be used: {reason}",
            address=address or "local",
            reason=_first_line(error),
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def share_of_cores(workers: int | None, parts: int) -> tuple[int, int]:
    """Return how many workers there are to be, and how many cores each of them gets.

    None makes one for each core: they then share neither locks nor caches, only machines. There are
    never more than ``parts``. A worker stays on one machine, so its share is the largest with
    which all of them find room. Raises UsageError.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cores = sum(nodes)
    if workers is not None and workers > cores:
        raise UsageError(
            "workers should be between 1 and {cores}, the number of cores; received {value}",
            cores=cores,
            value=workers,
        )
    count = min(workers or max(1, cores), parts)
    shares = (n for n in range(max(nodes), 0, -1) if sum(c // n for c in nodes) >= count)
    return count, next(shares, 1)


class RayPool:
    """Workers as actors: ``schedule.Pool``. An actor that dies is replaced by a new one."""

    def __init__(self, workers: int, cores: int, model: Any, *preparation: Any) -> None:
        """Start ``workers`` actors with ``cores`` cores each, and wait until all are ready.

        ``preparation`` is what ``Worker.prepare`` takes after model and threads. Raises the
        LushanError that a worker meets, ClusterError where none can be started.
        """
        self.size = workers
        self._actor = ray.remote(num_cpus=cores, max_restarts=0)(Worker)
        self._preparation = (ray.put(model), cores, *preparation)
        self._at_work: dict[Any, int] = {}
        self._actors = [self._actor.remote() for _ in range(workers)]
        ready = [self._prepare(actor) for actor in self._actors]
        for worker in range(workers):
            self._wait_until_ready(worker, ready[worker])

    def give(self, worker: int, entries: Any) -> None:
        """Give a worker a table of entries to recognise."""
        self._at_work[self._actors[worker].recognise.remote(entries)] = worker

    def take(self) -> tuple[int, Any | Failure]:
        """Wait for any worker and return its number and its answers, or why there are none."""
        (ready,), _ = ray.wait(list(self._at_work), num_returns=1)
        worker = self._at_work.pop(ready)
        try:
            return worker, ray.get(ready)
        except RayTaskError as error:  # it lives
            return worker, Failure(_first_line(error.cause), died=False)
        except RayError as error:
            self._replace(worker)
            return worker, Failure(_first_line(error), died=True)

    def _prepare(self, actor: Any) -> Any:
        return actor.prepare.remote(*self._preparation)

    def _replace(self, worker: int) -> Any:
        ray.kill(self._actors[worker])  # where it is only out of reach, its cores are to be free
        self._actors[worker] = self._actor.remote()
        return self._prepare(self._actors[worker])

    def _wait_until_ready(self, worker: int, ready: Any) -> None:
        reason = ""
        for _ in range(_STARTS):
            try:
                ray.get(ready)
                return
            except RayTaskError as error:
                if isinstance(error.cause, LushanError):
                    raise error.cause from None
                reason = _first_line(error.cause)
                break
            except RayError as error:
                reason = _first_line(error)
                ready = self._replace(worker)
        raise ClusterError("no worker can be started: {reason}", reason=reason)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
