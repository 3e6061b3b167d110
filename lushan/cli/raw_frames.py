"""Raw frames as inputs: ``--raw FORMAT --size WxH`` makes of a file, or of stdin, its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NoReturn

from lushan.errors import LushanError
from lushan.image.frame_stream import RawLayout, read_frames
from lushan.image.raw_frame import Frame
from lushan.image.sources import source_name


class RawFrames:
    """The frames of some files in order, to be read while they are answered.

    ``sources`` yields a frame, or a function that raises what is wrong with one; ``names`` holds
    the names of those that were taken, in the same order.
    """

    def __init__(self, words: Iterable[str], layout: RawLayout) -> None:
        self._words = words
        self._layout = layout
        self.names: deque[str] = deque()

    def sources(self) -> Iterator[Frame | Callable[[], NoReturn]]:
        """Yield each frame of each word: a path, or - for stdin."""
        for word in self._words:
            try:
                for number, data in enumerate(read_frames(word, self._layout)):
                    name = f"{source_name(word)}:{number}"
                    self.names.append(name)
                    yield self._layout.frame(data, name)
            except LushanError as error:
                self.names.append(source_name(word))
                yield partial(_raise, error)


def _raise(error: LushanError) -> NoReturn:
    raise error
