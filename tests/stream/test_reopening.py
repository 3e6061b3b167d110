"""A live source that breaks is opened again, less and less often."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lushan.errors import LushanError, PictureError
from lushan.stream.reopening import paced, reopened
from lushan.stream.timed_frame import TimedFrame

PIXELS = np.zeros((2, 2, 3), np.uint8)


class Camera:
    """Gives, each time it is opened, the next list of times; None is an address that is dead."""

    name = "camera"
    live = True
    damaged = 0

    def __init__(self, *openings: list[float] | None) -> None:
        self._openings = iter(openings)

    def frames(self) -> Iterator[TimedFrame]:
        times = next(self._openings)
        if times is None:
            raise PictureError("{source}: no route", source=self.name)
        for index, seconds in enumerate(times):
            yield TimedFrame(index, seconds, PIXELS, lambda: PIXELS)

    def close(self) -> None:
        pass


class Clock:
    """Stands still but for those who sleep."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_frames_and_times_go_on() -> None:
    camera, clock = Camera([0.0, 0.5], None, None, [0.0, 0.25]), Clock()
    told: list[tuple[str, float]] = []

    def tell(error: LushanError, wait: float) -> None:
        told.append((str(error), wait))

    frames = reopened(camera, tell, clock=clock, sleep=clock.sleep)
    seen = [next(frames) for _ in range(4)]
    assert [one.index for one in seen] == [0, 1, 2, 3]
    assert [one.seconds for one in seen] == [0.0, 0.5, 7.0, 7.25]  # 1 + 2 + 4 seconds waited
    assert told == [
        ("camera: the stream has ended", 1.0),
        ("camera: no route", 2.0),
        ("camera: no route", 4.0),
    ]


def test_a_source_that_came_back_is_asked_again_soon_and_no_later_than_half_a_minute() -> None:
    camera, clock = Camera([0.0], *[None] * 7, [0.0], []), Clock()
    waits: list[float] = []
    frames = reopened(
        camera, lambda error, wait: waits.append(wait), clock=clock, sleep=clock.sleep
    )
    with pytest.raises(RuntimeError):  # the camera's list has come to its end
        list(frames)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 1, 2]


def test_a_wrong_address_is_told_at_once() -> None:
    frames = reopened(Camera(None), lambda error, wait: pytest.fail("no second attempt is due"))
    with pytest.raises(PictureError, match="camera: no route"):
        next(frames)


def test_a_file_played_as_if_it_were_live() -> None:
    clock = Clock()
    frames = paced(Camera([0.0, 0.5, 0.75]).frames(), clock=clock, sleep=clock.sleep)
    next(frames)
    clock.now += 0.6  # the second is late already
    assert next(frames).seconds == 0.5
    assert clock.now == 100.6
    next(frames)
    assert clock.now == 100.75


def test_times_never_go_back() -> None:
    camera, clock = Camera([0.0, 4.0], [0.0, 6.0]), Clock()  # four seconds at once, then one waited
    frames = reopened(camera, lambda error, wait: None, clock=clock, sleep=clock.sleep)
    assert [next(frames).seconds for _ in range(4)] == [0.0, 4.0, 4.0, 7.0]
