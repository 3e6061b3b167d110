"""The way of a request's pictures: admitted, decoded, batched, scored.

Nothing here runs on the event loop but the handing over. A request that nobody waits for any more
(its time is over, its client gone) is dropped wherever it is found.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lushan.errors import PictureTooLargeError
from lushan.recognizer import Recognizer
from lushan.serve.admission import Allowance
from lushan.serve.batching import Array, Row, Workers
from lushan.serve.limits import GOOD_FOR_ANY, Limits
from lushan.serve.metrics import Metrics
from lushan.serve.refusal import RefusalError, late

if TYPE_CHECKING:
    from lushan.image.decode import InputReport


@dataclass(frozen=True)
class Scored:
    """One picture's scores [classes]; the report is None where a tensor was sent."""

    scores: Array
    report: InputReport | None


class Job:
    """The pictures of one request. Made on the event loop, which alone may wait for it."""

    def __init__(self, count: int, seconds: float, allowance: Allowance) -> None:
        self.results: list[Scored | Exception | None] = [None] * count
        self.reports: list[InputReport | None] = [None] * count
        self._deadline = time.monotonic() + seconds
        self._allowance = allowance
        self._left = count
        self._lock = threading.Lock()
        self._abandoned = False
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()

    @property
    def dead(self) -> bool:
        """Whether nobody waits any more."""
        return self._abandoned or time.monotonic() > self._deadline

    def finish(self, index: int, result: Array | Exception) -> None:
        """Take the scores of one picture, or why there are none; any thread may call it."""
        if isinstance(result, Exception):
            # Out of time, if only as the machine slept while decoding: not the picture's fault.
            self.results[index] = TimeoutError() if self.dead else result
        else:
            self.results[index] = Scored(result, self.reports[index])
        self._allowance.give_back(1)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def wait(self, gone: asyncio.Future[None]) -> list[Scored | Exception]:
        """Return one result per picture. Raises RefusalError once the request's time is over.

        ``gone`` tells that the client has left: then asyncio.CancelledError ends the request.
        """
        try:
            await asyncio.wait(
                (self._done, gone),
                timeout=max(0.0, self._deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not self._done.done():
                if gone.done():
                    raise asyncio.CancelledError
                raise late()
        finally:
            self._abandoned = True
        results = [result for result in self.results if result is not None]
        return [late() if isinstance(result, TimeoutError) else result for result in results]

    def _wake(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class Pipeline:
    """One model's: it owns the recognizer and the threads that decode and score."""

    def __init__(
        self, recognizer: Recognizer, limits: Limits, allowance: Allowance, metrics: Metrics
    ) -> None:
        self.name = recognizer.model.name
        self.recognizer = recognizer
        self._limits = limits
        self._allowance = allowance
        self._metrics = metrics
        size = recognizer.model.preprocessing
        self.shape = (size.height, size.width, 3)  # of one preprocessed picture
        for batch in reversed(limits.batches):  # each size makes its plan now, not for a client
            recognizer.scores(np.zeros((batch, *self.shape), np.float32))
        self._large = ThreadPoolExecutor(1, "lushan-decode-large")
        self._large_allowance = Allowance(max(1, limits.queue // 4))
        self._workers = Workers(
            lambda batch, threads: recognizer.scores(batch, threads=threads),
            recognizer.threads,
            limits.batches,
            limits.max_delay,
            partial(metrics.batch, self.name),
            self.name,
        )

    def pictures(self, files: Sequence[tuple[str, bytes]], seconds: float) -> Job:
        """Start on pictures given as (name, bytes of the file); ``seconds`` are all they get.

        Raises RefusalError, a 503, where there is no room for all of them.
        """
        job = self._admit(len(files), seconds)
        for index, (name, data) in enumerate(files):
            self._workers.submit(partial(self._decode, job, index, name, data))
        return job

    def tensor(self, batch: Array, seconds: float) -> Job:
        """Start on preprocessed pictures [N, H, W, 3], as ``pictures`` does."""
        job = self._admit(len(batch), seconds)
        now = time.perf_counter()
        self._workers.put([Row(job, index, pixels, now) for index, pixels in enumerate(batch)])
        return job

    def close(self) -> None:
        """End the threads, after what they are at, and give the engine's memory back."""
        self._workers.close()
        self._large.shutdown(cancel_futures=True)
        self.recognizer.close()

    def _admit(self, pictures: int, seconds: float) -> Job:
        self._allowance.take(pictures)
        return Job(pictures, min(seconds, self._limits.timeout), self._allowance)

    def _decode(self, job: Job, index: int, name: str, data: bytes) -> Row | None:
        """Decode one picture; one that is large goes to the thread for such, if it has room."""
        try:
            return self._prepare(job, index, name, data, min(GOOD_FOR_ANY, self._limits.max_pixels))
        except PictureTooLargeError as error:
            if self._limits.max_pixels <= GOOD_FOR_ANY:
                job.finish(index, error)
                return None
            try:
                self._large_allowance.take(1)
            except RefusalError as refusal:
                job.finish(index, refusal)
                return None
            self._large.submit(self._decode_large, job, index, name, data)
        except Exception as error:
            job.finish(index, error)
        return None

    def _decode_large(self, job: Job, index: int, name: str, data: bytes) -> None:
        try:
            row = self._prepare(job, index, name, data, self._limits.max_pixels)
        except Exception as error:
            job.finish(index, error)
        else:
            self._workers.put([row])
        finally:
            self._large_allowance.give_back(1)

    def _prepare(self, job: Job, index: int, name: str, data: bytes, max_pixels: int) -> Row:
        """Decode one picture and return it as the engine wants it; raises what is wrong with it."""
        if job.dead:
            raise TimeoutError
        start = time.perf_counter()
        pixels, job.reports[index] = self.recognizer.prepare(
            data, name=name, max_pixels=max_pixels, seconds=self._limits.timeout
        )
        now = time.perf_counter()
        self._metrics.phase(self.name, "decode", now - start)
        return Row(job, index, pixels, now)
