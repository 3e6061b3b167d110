"""Answers for frames as they come: recognise, average, decide what is worth telling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Protocol

from lushan.errors import LushanError, UsageError
from lushan.recognizer import Predictions, Recognizer
from lushan.stream.feed import Feed
from lushan.stream.reopening import paced, reopened
from lushan.stream.settling import Settling, Smoother
from lushan.stream.timed_frame import FrameSource, TimedFrame


@dataclass(frozen=True)
class Answer:
    """What is in a frame."""

    source: str
    frame: int  # its place in the source, from 0
    seconds: float  # its time, since the first frame
    clock: str | None  # when it came, UTC, ISO 8601; for live sources
    predictions: Predictions

    def to_dict(self) -> dict[str, Any]:
        """Return the record of ``lushan watch``, ready for JSON."""
        times: dict[str, Any] = {"frame": self.frame, "seconds": round(self.seconds, 6)}
        if self.clock is not None:
            times["clock"] = self.clock
        return {"source": self.source, **times, **self.predictions.to_dict()}


@dataclass
class Counts:
    """What has happened so far."""

    frames: int = 0  # that reached us
    answered: int = 0  # recognised
    told: int = 0  # lines
    reopened: int = 0
    began: float = 0.0  # of time.monotonic(), when the first frame was there

    def to_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: value for name, value in asdict(self).items() if name != "began"}


class Canvas(Protocol):
    """Where frames are drawn with their answers."""

    def draw(self, frame: TimedFrame, predictions: Predictions | None) -> None:
        """Add a frame; the predictions are those of the last one that was recognised."""


class Watch:
    """Frames of a source → answers. Iterate over it once; ``stop`` ends that from anywhere.

    Of a live source the latest frame is taken and those that nobody had time for are dropped; it is
    opened again when it breaks. Of any other every frame is read. ``every`` n recognises each nth
    frame only, ``smooth`` averages scores over so many seconds, and with ``on_change`` an answer
    comes only when its best class is another than the one before and has been so for ``settle``
    seconds. ``told`` gets what went wrong and was overcome.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        source: FrameSource,
        *,
        every: int = 1,
        smooth: float = 0.0,
        on_change: bool = False,
        settle: float = 0.5,
        top: int | None = None,
        lang: str = "en",
        live: bool | None = None,
        canvas: Canvas | None = None,
        told: Callable[[LushanError], None] = lambda error: None,
    ) -> None:
        if type(every) is not int or every < 1:
            raise UsageError("every should be 1 or more; received {value!r}", value=every)
        self.counts = Counts()
        self._recognizer = recognizer
        self._source = source
        self._every = every
        self._smooth = Smoother(smooth)
        self._settled = Settling(settle) if on_change else None
        self._top = recognizer.check_top(top, lang)
        self._lang = lang
        self._canvas = canvas
        self._told = told
        self._stopped = False
        self._live = source.live if live is None else live
        self._feed = Feed(self._frames(), live=self._live, stopped=lambda: self._stopped)

    def totals(self) -> dict[str, int]:
        """Return what has happened so far, by name."""
        return {
            **self.counts.to_dict(),
            "dropped": self._feed.dropped,
            "damaged": self._source.damaged,
        }

    def rate(self) -> float:
        """Return how many frames a second were read since the first."""
        seconds = time.monotonic() - self.counts.began
        return self.counts.frames / seconds if self.counts.frames else 0.0

    def __iter__(self) -> Iterator[Answer]:
        """Yield the answers worth telling. Raises PictureError where the source gives out."""
        last: int | None = None  # the frame recognised last
        predictions: Predictions | None = None
        for frame in self._feed:
            if not self.counts.frames:
                self.counts.began = time.monotonic()
            self.counts.frames += 1
            answer = None
            if last is None or frame.index - last >= self._every:
                last = frame.index
                answer = self._answer(frame)
                predictions = answer.predictions
            if self._canvas is not None:
                self._canvas.draw(frame, predictions)
            if answer is not None and self._worth_telling(answer):
                self.counts.told += 1
                yield answer

    def stop(self) -> None:
        """End the iteration after the frame at hand; safe in a signal handler."""
        self._stopped = True

    def close(self) -> None:
        """Stop, and let go of the source."""
        self.stop()
        self._feed.close()
        self._source.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _frames(self) -> Iterator[TimedFrame]:
        if self._source.live:
            return reopened(self._source, self._broken)
        return paced(self._source.frames()) if self._live else self._source.frames()

    def _broken(self, reason: LushanError, wait: float) -> None:
        self.counts.reopened += 1
        self._told(
            LushanError("{reason}; opening it again in {wait:g} s", reason=reason, wait=wait)
        )

    def _answer(self, frame: TimedFrame) -> Answer:
        pixels, report = self._recognizer.prepare(frame.picture, name=self._source.name)
        scores = self._recognizer.scores(pixels[None])[0]
        self._recognizer.check_scores(scores, report.source)  # before they spoil the average
        smooth = self._smooth(scores, frame.seconds)
        self.counts.answered += 1
        return Answer(
            source=self._source.name,
            frame=frame.index,
            seconds=frame.seconds,
            clock=datetime.now(timezone.utc).isoformat() if self._source.live else None,
            predictions=self._recognizer.answer(smooth, report, self._top, self._lang),
        )

    def _worth_telling(self, answer: Answer) -> bool:
        return self._settled is None or self._settled(answer.predictions[0].index, answer.seconds)
