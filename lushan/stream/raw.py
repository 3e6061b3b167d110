"""Raw frames, one after another without any header, as a source: from a file, or from a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator

from lushan.image.frame_stream import RawLayout, read_frames
from lushan.image.sources import source_name
from lushan.stream.timed_frame import TimedFrame


class RawSource:
    """Frames of one layout. With ``rate`` their times are counted, else they are the clock's."""

    live = False
    damaged = 0

    def __init__(self, address: str, layout: RawLayout, *, rate: float | None = None) -> None:
        self.name = source_name(address)
        self._address = address
        self._layout = layout
        self._rate = rate

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames. Raises PictureError for a file that is not whole frames."""
        started: float | None = None
        for index, data in enumerate(read_frames(self._address, self._layout)):
            now = time.monotonic()
            if started is None:
                started = now
            seconds = index / self._rate if self._rate else now - started
            frame = self._layout.frame(data, self.name)
            yield TimedFrame(index, seconds, frame, frame.to_rgb)

    def close(self) -> None:
        """Nothing is held: the file is closed by whoever reads the frames."""
