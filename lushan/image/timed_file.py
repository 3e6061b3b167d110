"""A picture's bytes as a file that ends a reader who takes too long.

Python cannot end a thread from outside. But a decoder at work on hostile bytes, say on a million
frames of ten bytes each, asks for them one by one: there it can be stopped.
"""

from __future__ import annotations

import io
import os
import time
from typing import Any

from lushan.errors import PictureError


class TimedFile(io.BytesIO):
    """``data`` as a binary file; after ``seconds`` its methods raise PictureError."""

    def __init__(self, data: bytes, name: str, seconds: float) -> None:
        super().__init__(data)
        self._picture = name
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, as BytesIO does."""
        self._check()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return one line, as BytesIO does."""
        self._check()
        return super().readline(size)

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer``, as BytesIO does."""
        self._check()
        return super().readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, as BytesIO does."""
        self._check()
        return super().seek(offset, whence)

    def _check(self) -> None:
        if time.monotonic() > self._end:
            raise PictureError(
                "{source}: decoding it takes longer than {seconds} s; save it anew, or smaller",
                source=self._picture,
                seconds=self._seconds,
            )
