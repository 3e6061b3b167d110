"""One frame on its way, and what every source of frames offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lushan.recognizer import Source


@dataclass(frozen=True)
class TimedFrame:
    """A frame, its place in the source, counted from 0, and its time there.

    ``pixels`` gives what it shows, uint8 [H, W, 3]: made only for those who draw on it.
    """

    index: int
    seconds: float  # since the first frame
    picture: Source = field(repr=False)
    pixels: Callable[[], npt.NDArray[np.uint8]] = field(repr=False)


class FrameSource(Protocol):
    """Where frames come from."""

    @property
    def name(self) -> str:
        """What messages and answers call the source."""

    @property
    def live(self) -> bool:
        """Whether the source goes on at its own speed, whether anyone looks or not."""

    @property
    def damaged(self) -> int:
        """How many frames could not be decoded, or not wholly, so far."""

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames in order. May be called again once it has ended or raised.

        Raises PictureError where the source cannot be read on.
        """

    def close(self) -> None:
        """Let go of the source."""
