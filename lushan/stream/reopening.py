"""A camera that went away is asked for again, less and less often; a file is played like one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from lushan.errors import LushanError, PictureError
from lushan.stream.timed_frame import FrameSource, TimedFrame

FIRST_WAIT = 1.0  # seconds before the first new attempt; twice as long before each further one
LONGEST_WAIT = 30.0


def reopened(
    source: FrameSource,
    told: Callable[[LushanError, float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[TimedFrame]:
    """Yield the frames of a live source for ever.

    When it ends or fails, ``told`` gets the reason and the seconds until the next attempt. Frames
    are counted on, and their times go on as the clock does. What the first attempt raises before
    any frame came is raised: a wrong address is no camera that went away.
    """
    index = 0
    seconds = 0.0
    started = clock()
    wait = FIRST_WAIT
    while True:
        base = None
        reason: LushanError = PictureError("{source}: the stream has ended", source=source.name)
        try:
            for frame in source.frames():
                if base is None:
                    started = clock() if index == 0 else started
                    base = clock() - started
                    wait = FIRST_WAIT
                # A stream may have come faster than its own times: they never go back.
                seconds = max(seconds, base + frame.seconds)
                yield replace(frame, index=index, seconds=seconds)
                index += 1
        except PictureError as error:
            if index == 0:
                raise
            reason = error
        told(reason, wait)
        sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def paced(
    frames: Iterator[TimedFrame],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[TimedFrame]:
    """Yield each frame when its time has come, as a camera would."""
    started = None
    for frame in frames:
        if started is None:
            started = clock() - frame.seconds
        ahead = started + frame.seconds - clock()
        if ahead > 0:
            sleep(ahead)
        yield frame
