"""Raw frames, one after another without any header, as a source: from a file, or from a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from lushan.image.frame_stream import FrameLayout, open_frames, read_frames, stream_name
from lushan.stream.timed_frame import TimedFrame


class RawSource:
    """Frames of one layout. With ``rate`` their times are counted, else they are the clock's."""

    live = False
    damaged = 0

    def __init__(self, address: str, layout: FrameLayout, *, rate: float | None = None) -> None:
        self.name = stream_name(address)
        self._layout = layout
        self._rate = rate
        self._open = ExitStack()
        self._file = self._open.enter_context(open_frames(address))

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames; raises PictureError where the last one is not whole."""
        started: float | None = None
        for index, frame in enumerate(read_frames(self._file, self._layout, self.name)):
            now = time.monotonic()
            if started is None:
                started = now
            seconds = index / self._rate if self._rate else now - started
            yield TimedFrame(index, seconds, frame, frame.to_rgb)

    def close(self) -> None:
        """Close the file; standard input stays open, a thread may be waiting for it."""
        self._open.close()
