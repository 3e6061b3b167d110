"""A video of what was watched, with the answers written into it.

The file is made of fragments, so that it can be played while it grows and after a crash. Names are
those of the answers; Pillow's own font, which is used, has letters but no Chinese characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lushan.errors import UsageError
from lushan.recognizer import Predictions
from lushan.stream.timed_frame import TimedFrame

_CODECS = ("libx264", "mpeg4")  # the first that this FFmpeg can write
_TICKS = 90_000  # a second, as in MPEG
_LINES = 3  # best classes that are written


class AnnotatedVideo:
    """Writes frames to ``path``, whose ending names the format.

    Everything raises UsageError where that cannot be done. The file is Python's: FFmpeg's own
    would be opened with the first frame only, and says nothing when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: av.video.stream.VideoStream | None = None
        self._last = -1
        fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        options = fragments if path.suffix.lower() in {".mp4", ".mov", ".m4v"} else {}
        with self._errors_named():
            av.open(f"file:{path}", "w").close()  # an unknown ending leaves what is there alone
            self._file = path.open("wb", buffering=0)
            self._container = av.open(self._file, "w", options=options)

    def draw(self, frame: TimedFrame, predictions: Predictions | None) -> None:
        """Add a frame, with the best of ``predictions`` written into its corner."""
        with self._errors_named():
            self._draw(frame, predictions)

    def _draw(self, frame: TimedFrame, predictions: Predictions | None) -> None:
        image = Image.fromarray(frame.pixels())
        if predictions is not None:
            _write(image, predictions)
        pixels = np.asarray(image)
        height, width = pixels.shape[:2]  # H.264 wants even sides
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        stream = self._stream or self._begin(*pixels.shape[:2])
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(self._last + 1, round(frame.seconds * _TICKS))
        picture.pts, picture.time_base = self._last, Fraction(1, _TICKS)
        picture = picture.reformat(width=stream.width, height=stream.height, format="yuv420p")
        self._container.mux(stream.encode(picture))

    def close(self) -> None:
        """Write what is left, and end the file."""
        with self._errors_named(), self._file:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UsageError(
                "{path}: a video cannot be written there: {problem}",
                path=str(self._path),
                problem=getattr(error, "strerror", None) or str(error),
            ) from None

    def _begin(self, height: int, width: int) -> av.video.stream.VideoStream:
        codec = next(name for name in _CODECS if name in av.codec.codecs_available)
        stream = self._container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream = stream
        return stream


def _write(image: Image.Image, predictions: Predictions) -> None:
    """Write the best answers into the upper left corner of ``image``."""
    size = max(10, round(image.height / 24))
    font = ImageFont.load_default(size)
    lines = [f"{100 * one.probability:3.0f} %  {one.description}" for one in predictions[:_LINES]]
    draw = ImageDraw.Draw(image, "RGBA")
    draw.rectangle((0, 0, image.width, size * (1.35 * len(lines) + 0.6)), fill=(0, 0, 0, 150))
    for row, line in enumerate(lines):
        draw.text((size / 2, size * (0.3 + 1.35 * row)), line, fill=(255, 255, 255), font=font)
