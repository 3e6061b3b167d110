"""Frames read ahead by a thread, and which of them are kept when the reader is too fast.

A source that waits (a file, a pipe) is read two frames ahead, and every frame is handed on. Of one
that does not (a camera) the latest frame is taken: an older one that nobody has fetched is dropped
and counted, never queued, so that an answer is never about a moment long gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread

from lushan.stream.timed_frame import TimedFrame

_AHEAD = 2
_LOOK_UP = 0.1  # seconds: how long a request to stop may go unnoticed


class Feed:
    """Frames from a thread of its own; iterate over it once.

    ``stopped`` is asked every so often while there is nothing to hand on.
    """

    def __init__(
        self, frames: Iterator[TimedFrame], *, live: bool, stopped: Callable[[], bool]
    ) -> None:
        self.dropped = 0
        self._frames = frames
        self._live = live
        self._stopped = stopped
        self._change = Condition()
        self._waiting: deque[TimedFrame] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        # A daemon: the thread may be waiting for a camera that says nothing any more.
        Thread(target=self._read, name="lushan-frames", daemon=True).start()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield frames until the source ends or ``stopped``; raise what reading raised."""
        while not self._stopped():
            with self._change:
                if not self._waiting and not self._ended:
                    self._change.wait(_LOOK_UP)
                    continue
                if not self._waiting:
                    break
                frame = self._waiting.popleft()
                self._change.notify_all()
            yield frame
        if self._error is not None and not self._waiting and not self._stopped():
            raise self._error

    def close(self) -> None:
        """Have the thread end after the frame it is reading; does not wait for that."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if not self._hand_on(frame):
                    break
            if isinstance(self._frames, Generator):
                self._frames.close()  # whoever holds a file or a camera lets go of it now
        except BaseException as error:  # raised where the frames are asked for
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _hand_on(self, frame: TimedFrame) -> bool:
        """Offer a frame; return whether anyone still wants the next."""
        with self._change:
            if self._live:
                self.dropped += len(self._waiting)
                self._waiting.clear()
            else:
                self._change.wait_for(lambda: self._closed or len(self._waiting) < _AHEAD)
            if not self._closed:
                self._waiting.append(frame)
            self._change.notify_all()
            return not self._closed
