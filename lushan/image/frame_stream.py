"""Raw frames one after another, without any header: what the bytes mean, and reading them.

What the driver of a camera, FFmpeg (``-f rawvideo``) or GStreamer writes into a file or a pipe.
Nothing in the bytes tells a wrong size. What can be seen is that they do not come out even: then a
file is refused before any frame of it is answered, and a stream, whose length nobody knows, after
its last whole frame.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from lushan.errors import PictureError
from lushan.image.color import Range, Standard
from lushan.image.raw_frame import Frame, raw_frame_size
from lushan.image.sources import source_name
from lushan.record import record

STDIN = "-"


@record
class RawLayout:
    """What the bytes of raw frames mean; None is guessed, see ``Frame.from_bytes``."""

    format: str
    width: int  # pixels
    height: int  # pixels
    stride: int | None = None  # bytes
    standard: Standard | None = None
    value_range: Range | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame. Raises UsageError for what no frame can be."""
        return raw_frame_size(self.format, self.width, self.height, self.stride)

    def frame(self, data: bytes | bytearray, name: str) -> Frame:
        """Return the frame that ``data`` is."""
        return Frame.from_bytes(
            data,
            self.format,
            self.width,
            self.height,
            self.stride,
            standard=self.standard,
            value_range=self.value_range,
            name=name,
        )


def read_frames(word: str, layout: RawLayout) -> Iterator[bytearray]:
    """Yield the bytes of each frame of a path, or of standard input for ``-``.

    Raises PictureError for a file that cannot be read, is empty or holds no whole number of frames.
    """
    size, name = layout.frame_bytes, source_name(word)
    with _open(word, name) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and word != STDIN:
            _check_even(status.st_size, layout, name)
        number = 0
        while True:
            data = bytearray(size)
            filled = _fill(file, memoryview(data), name)
            if filled < size:
                break
            yield data
            number += 1
    if filled or not number:
        _check_even(number * size + filled, layout, name)


def _check_even(total: int, layout: RawLayout, name: str) -> None:
    if not total:
        raise PictureError("{source}: the file is empty", source=name)
    whole, rest = divmod(total, layout.frame_bytes)
    if rest:
        raise PictureError(
            "{source}: {total} bytes are not whole {format} frames of {width}×{height} ({size} "
            "bytes each: {whole}, and {rest} bytes left): cut short, or another --size",
            source=name,
            total=total,
            format=layout.format,
            width=layout.width,
            height=layout.height,
            size=layout.frame_bytes,
            whole=whole,
            rest=rest,
        )


def _open(word: str, name: str) -> Any:
    """Open a file without a buffer: a thread that waits in a buffered one holds a lock.

    The end of the process would wait for it.
    """
    if word == STDIN:
        if sys.stdin is None:
            raise PictureError("{source}: standard input is closed", source=STDIN)
        return nullcontext(sys.stdin.buffer.raw)  # type: ignore[union-attr]
    try:
        return Path(word).open("rb", buffering=0)
    except FileNotFoundError as error:
        raise PictureError("{source}: there is no such file", source=name) from error
    except IsADirectoryError as error:
        raise PictureError("{source}: this is a folder, not a picture", source=name) from error
    except PermissionError as error:
        raise PictureError("{source}: no permission to read this file", source=name) from error
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def _fill(file: BinaryIO, view: memoryview, name: str) -> int:
    """Read into ``view`` until it is full or the file ends; return how many bytes came."""
    filled = 0
    while filled < len(view):
        try:
            count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        except OSError as error:
            raise _unreadable(name, error) from error
        if not count:
            break
        filled += count
    return filled


def _unreadable(name: str, error: Exception) -> PictureError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return PictureError("{source}: cannot be read ({reason})", source=name, reason=reason)
