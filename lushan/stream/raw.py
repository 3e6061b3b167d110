"""Raw frames, one after another without any header, as a source: from a file, or from a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from lushan.errors import PictureError
from lushan.image.raw_frame import Frame, FrameLayout
from lushan.stream.timed_frame import TimedFrame


class Readable(Protocol):
    """What bytes come from: an unbuffered binary file."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:
        """Fill some of ``buffer``; return how much, 0 at the end."""

    def close(self) -> None:
        """Let go of it."""


class RawSource:
    """Frames of one layout. With ``rate`` their times are counted, else they are the clock's."""

    live = False
    damaged = 0

    def __init__(
        self, name: str, file: Readable, layout: FrameLayout, *, rate: float | None = None
    ) -> None:
        self.name = name
        self._file = file
        self._layout = layout
        self._rate = rate

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames; raises PictureError where the last one is not whole."""
        index = 0
        started = time.monotonic()
        while (data := self._read(index)) is not None:
            if not index:
                started = time.monotonic()
            frame = self._layout.frame(data)
            seconds = index / self._rate if self._rate else time.monotonic() - started
            yield TimedFrame(index, seconds, frame, partial(Frame.to_rgb, frame))
            index += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, index: int) -> bytearray | None:
        """Return the bytes of the next frame, None where there is none.

        The file is read without a buffer: a thread that waits in a buffered one holds a lock that
        the end of the process would wait for.
        """
        data = bytearray(self._layout.size)
        filled = 0
        while filled < len(data):
            count = self._file.readinto(memoryview(data)[filled:])
            if not count:
                break
            filled += count
        if filled == len(data):
            return data
        if filled == 0 and index:
            return None
        raise PictureError(
            "{source}: it ends after {filled} of the {size} bytes of frame {index}: are format and "
            "size right?"
            if filled
            else "{source}: the file is empty",
            source=self.name,
            filled=filled,
            size=len(data),
            index=index,
        )
