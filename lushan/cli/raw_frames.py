"""Raw frames as inputs: ``--raw FORMAT --size WxH`` makes of a file, or of stdin, its frames.

Frames follow each other without headers, so nothing in the bytes tells a wrong size. What can be
seen is that they do not come out even: then a file is refused before any frame of it is answered,
and a stream, whose length nobody knows, after its last whole frame.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from lushan.cli.inputs import STDIN
from lushan.errors import LushanError, PictureError, UsageError
from lushan.image.color import BT601, BT709, Range, Standard
from lushan.image.raw_frame import Frame, raw_format, raw_frame_size
from lushan.image.sources import source_name

STANDARDS = {"601": BT601, "709": BT709}
_SIZE = re.compile(r"([0-9]{1,6})[xX×]([0-9]{1,6})")


@dataclass(frozen=True)
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


def raw_layout(
    format_name: str | None,
    size: str | None,
    stride: int | None,
    standard: str | None,
    value_range: Range | None,
) -> RawLayout | None:
    """Return what the options of a command say, None where it is not about raw frames."""
    if format_name is None:
        for option, value in (
            ("--size", size),
            ("--stride", stride),
            ("--standard", standard),
            ("--range", value_range),
        ):
            if value is not None:
                raise UsageError("{option} is about raw frames: give --raw too", option=option)
        return None
    layout = raw_format(format_name)
    if size is None:
        raise UsageError("--raw needs --size, such as 1920x1080: raw frames do not tell theirs")
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise UsageError(
            "--size should be WIDTHxHEIGHT, such as 1920x1080; received {value!r}", value=size
        )
    width, height = int(match[1]), int(match[2])
    known = None if standard is None else STANDARDS[standard]
    found = RawLayout(layout, width, height, stride, known, value_range)
    _ = found.frame_bytes  # a size or stride that cannot be is told before anything is read
    return found


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
                for number, data in enumerate(_read_frames(word, self._layout)):
                    name = f"{source_name(word)}:{number}"
                    self.names.append(name)
                    yield self._layout.frame(data, name)
            except LushanError as error:
                self.names.append(source_name(word))
                yield partial(_raise, error)


def _raise(error: LushanError) -> NoReturn:
    raise error


def _read_frames(word: str, layout: RawLayout) -> Iterator[bytearray]:
    """Yield the bytes of each frame of one word."""
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
    if word == STDIN:
        if sys.stdin is None:
            raise PictureError("{source}: standard input is closed", source=STDIN)
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(word).open("rb")
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
