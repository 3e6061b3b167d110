"""Frames read ahead: all of a file's, the latest of a camera's."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest

from lushan.errors import PictureError
from lushan.stream.feed import Feed
from lushan.stream.timed_frame import TimedFrame

PIXELS = np.zeros((2, 2, 3), np.uint8)


def frame(index: int) -> TimedFrame:
    return TimedFrame(index, index / 25, PIXELS, lambda: PIXELS)


def never() -> bool:
    return False


def test_every_frame_of_a_source_that_waits() -> None:
    ahead = 0

    def frames() -> Iterator[TimedFrame]:
        nonlocal ahead
        for index in range(50):
            ahead = index
            yield frame(index)

    feed = Feed(frames(), live=False, stopped=never)
    for place, got in enumerate(feed):
        assert got.index == place
        assert ahead - place <= 3  # two wait, one is being handed on
    assert place == 49
    assert feed.dropped == 0


def test_the_latest_frame_of_one_that_does_not() -> None:
    fetched, all_there = Event(), Event()

    def frames() -> Iterator[TimedFrame]:
        yield frame(0)
        fetched.wait(10)
        for index in range(1, 10):
            yield frame(index)
        all_there.set()

    feed = Feed(frames(), live=True, stopped=never)
    answers = iter(feed)
    assert next(answers).index == 0
    fetched.set()
    assert all_there.wait(10)
    assert [one.index for one in answers] == [9]
    assert feed.dropped == 8


def test_an_error_comes_after_the_frames_before_it() -> None:
    def frames() -> Iterator[TimedFrame]:
        yield frame(0)
        yield frame(1)
        raise PictureError("{source}: broken", source="camera")

    answers = iter(Feed(frames(), live=False, stopped=never))
    assert [next(answers).index, next(answers).index] == [0, 1]
    with pytest.raises(PictureError, match="camera: broken"):
        next(answers)


def test_stopped_while_the_source_says_nothing() -> None:
    silence, stop = Event(), Event()

    def frames() -> Iterator[TimedFrame]:
        yield frame(0)
        silence.wait(10)

    answers = iter(Feed(frames(), live=True, stopped=stop.is_set))
    next(answers)
    stop.set()
    assert list(answers) == []
    silence.set()


def test_closing_ends_the_source() -> None:
    ended = Event()

    def frames() -> Iterator[TimedFrame]:
        try:
            for index in range(1_000_000):
                yield frame(index)
        finally:
            ended.set()

    feed = Feed(frames(), live=False, stopped=never)
    next(iter(feed))
    feed.close()
    assert ended.wait(10)
