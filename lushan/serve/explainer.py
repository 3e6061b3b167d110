"""Explanations for the service: a queue of their own, and a process of their own.

An explanation costs up to a thousand recognitions, much of it Python. In a process with a low
priority it leaves recognition its interpreter and, where they are wanted, its cores; one that takes
too long, or all memory, is ended with the process. The process starts with the first picture that
somebody wants explained, and goes when nobody has asked for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import pickle
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from lushan.recognizer import Recognizer
from lushan.serve import explainer_process
from lushan.serve.admission import Allowance
from lushan.serve.explainer_process import Ask, Load
from lushan.serve.kept import Kept
from lushan.serve.limits import Limits
from lushan.serve.question import Question
from lushan.serve.refusal import late

if TYPE_CHECKING:
    from lushan.serve.explanations import Answer

_POLL = 0.1  # seconds between looks at whether anybody still waits
_LEFT_OVER = 2.0  # seconds to finish in what nobody waits for any more
_END = 5.0  # seconds for the process to end by itself


class Explainer:
    """Answers questions one at a time, in the order they come."""

    def __init__(self, recognizers: Mapping[str, Recognizer], limits: Limits) -> None:
        self._recognizers = recognizers
        self._limits = limits
        self.queue = Allowance(limits.explanations)
        self._thread = ThreadPoolExecutor(1, "lushan-explain")
        self._process: _Process | None = None
        self._closed = False
        self._idle: threading.Timer | None = None

    async def ask(self, identity: str, kept: Kept, question: Question) -> Answer:
        """Answer a question about a kept picture.

        Raises RefusalError, a 503, where too many wait already or it takes too long, and what is
        wrong with the question. A waiting question is dropped when its task is cancelled.
        """
        self.queue.take(1)
        gone = threading.Event()
        asked = Ask(kept.model, identity, kept.data, question)
        future = self._thread.submit(self._answer, asked, gone)
        future.add_done_callback(lambda _: self.queue.give_back(1))
        try:
            return await asyncio.wrap_future(future)
        finally:
            gone.set()

    def warm_up(self) -> None:
        """Start the process, if it is not there: a picture was sent whose answer may be asked."""
        if self._process is None and not self.queue.used and not self._closed:
            self._thread.submit(self._warm)

    def close(self) -> None:
        """End the process and the thread; who still waits is cancelled."""
        self._closed = True
        self._thread.shutdown(cancel_futures=True)
        if self._idle is not None:
            self._idle.cancel()
        self._stop()

    # --- in the thread ----------------------------------------------------------------------------

    def _started(self) -> _Process:
        if self._process is None:
            self._process = _Process()
        return self._process

    def _warm(self) -> None:
        if not self._closed:
            self._started()
            self._watch_idle()

    def _watch_idle(self) -> None:
        """From now on, count how long nobody asks."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(self._limits.explain_idle, self._end_idle)
        self._idle.daemon = True
        self._idle.start()

    def _answer(self, asked: Ask, gone: threading.Event) -> Answer:
        if gone.is_set() or self._closed:
            raise asyncio.CancelledError
        deadline = time.monotonic() + self._limits.explain_timeout
        process = self._started()
        try:
            process.know(self._recognizers[asked.model], asked.model)
            process.pipe.send(asked)
            while not process.pipe.poll(_POLL):
                if gone.is_set() or self._closed:  # most are done sooner than a process starts
                    deadline = min(deadline, time.monotonic() + _LEFT_OVER)
                if time.monotonic() > deadline:
                    raise late()
            result: Answer | Exception = process.pipe.recv()
        except BaseException:  # it is at work for nobody, or has died
            self._stop()
            raise
        finally:
            self._watch_idle()
        if isinstance(result, Exception):
            raise result
        return result

    def _end_idle(self) -> None:
        if not self.queue.used:
            with contextlib.suppress(RuntimeError):  # closed in this very moment
                self._thread.submit(self._stop)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


class _Process:
    """The process from without."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self.pipe, theirs = context.Pipe()
        self._known: set[str] = set()
        self._process = context.Process(
            target=explainer_process.main, args=(theirs,), name="lushan-explain", daemon=True
        )
        self._process.start()
        theirs.close()

    def know(self, recognizer: Recognizer, name: str) -> None:
        """Send the model called ``name`` over, unless it was before."""
        if name in self._known:
            return
        model = recognizer.model
        whole = replace(model, weights={key: model.weights[key] for key in model.weights})
        pickled = pickle.dumps(whole, protocol=5)
        self.pipe.send(Load(name, pickled, recognizer.engine, recognizer.threads))
        self._known.add(name)

    def close(self) -> None:
        """End the process, also one that is at work."""
        self.pipe.close()
        self._process.terminate()
        self._process.join(_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
