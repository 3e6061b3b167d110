"""Raw frames one after another, without any header: how long each is, and reading them whole.

What a camera's driver, FFmpeg (``-f rawvideo``) or GStreamer writes into a file or a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from lushan.errors import PictureError
from lushan.image.color import Range, Standard
from lushan.image.raw_frame import Frame, raw_format, raw_frame_size

STDIN = "-"


class Readable(Protocol):
    """What bytes come from: an unbuffered binary file."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:
        """Fill some of ``buffer``; return how much, 0 at the end."""


@dataclass(frozen=True)
class FrameLayout:
    """What the bytes of each frame mean; arguments as for ``Frame.from_bytes``."""

    format: str
    width: int  # pixels
    height: int  # pixels
    standard: Standard | None = None
    value_range: Range | None = None

    def __post_init__(self) -> None:
        raw_format(self.format)
        raw_frame_size(self.format, self.width, self.height)

    @property
    def size(self) -> int:
        """The bytes of one frame."""
        return raw_frame_size(self.format, self.width, self.height)

    def frame(self, data: bytes | bytearray, name: str) -> Frame:
        """Return the frame in ``data``; messages and reports call it ``name``."""
        return Frame.from_bytes(
            data,
            self.format,
            self.width,
            self.height,
            standard=self.standard,
            value_range=self.value_range,
            name=name,
        )


@contextmanager
def open_frames(address: str) -> Iterator[Readable]:
    """Yield the file at ``address``, or standard input for ``-``. Raises PictureError if it cannot.

    Unbuffered: a thread that waits in a buffered file holds a lock that the end of the process
    would wait for.
    """
    if address == STDIN:
        yield cast("Readable", sys.stdin.buffer.raw)  # type: ignore[union-attr]
        return
    try:
        file = Path(address).open("rb", buffering=0)  # noqa: SIM115 (closed below)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError("{source}: {problem}", source=address, problem=problem) from None
    with file:
        yield file


def stream_name(address: str) -> str:
    """Return what messages call the file at ``address``."""
    return "<stdin>" if address == STDIN else address


def read_frames(file: Readable, layout: FrameLayout, name: str) -> Iterator[Frame]:
    """Yield the frames of ``file`` to its end.

    Raises PictureError where there is none, where the last is not whole, or where reading fails.
    """
    index = 0
    while (data := _read(file, layout.size, name, index)) is not None:
        yield layout.frame(data, name)
        index += 1


def _read(file: Readable, size: int, name: str, index: int) -> bytearray | None:
    """Return the bytes of frame ``index``, None where the file ended with the one before."""
    data = bytearray(size)
    filled = 0
    while filled < size:
        try:
            count = file.readinto(memoryview(data)[filled:])
        except OSError as error:
            raise PictureError(
                "{source}: {problem}", source=name, problem=error.strerror or str(error)
            ) from None
        if not count:
            break
        filled += count
    if filled == size:
        return data
    if filled == 0 and index:
        return None
    if filled == 0:
        raise PictureError("{source}: the file is empty", source=name)
    raise PictureError(
        "{source}: frame {index} has {filled} of its {size} bytes: are format and size right?",
        source=name,
        index=index,
        filled=filled,
        size=size,
    )
