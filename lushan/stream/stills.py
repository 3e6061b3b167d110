"""A picture file as a source of one frame: it takes the way of every picture, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lushan.stream.timed_frame import TimedFrame


class StillSource:
    """One picture."""

    live = False
    damaged = 0

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the picture; whoever reads it meets the PictureError of a broken one."""
        yield TimedFrame(0, 0.0, self.name, self._pixels)

    def close(self) -> None:
        """Nothing is held."""

    def _pixels(self) -> npt.NDArray[np.uint8]:
        from lushan.image.decode import decode

        return decode(self.name).pixels
