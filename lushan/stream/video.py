"""Video files, streams and cameras as a source of frames, read by FFmpeg through PyAV.

The planes of a decoded frame go to the network as they are; no RGB picture is made. What FFmpeg
gives in a form that ``Frame`` does not know (more than 8 bits, other samplings) it converts to
4:2:0 first. Left out: sound, subtitles, pixels that are not square, and the light of HDR.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import av
import numpy as np
import numpy.typing as npt

from lushan.errors import PictureError
from lushan.image.color import BT601, BT709, Range, Standard
from lushan.image.raw_frame import Frame
from lushan.stream.timed_frame import TimedFrame

# Pixel formats of FFmpeg whose planes are those of a Frame.
_FORMATS = {
    "yuv420p": "I420",
    "yuvj420p": "I420",
    "yuv422p": "I422",
    "yuvj422p": "I422",
    "yuv444p": "I444",
    "yuvj444p": "I444",
    "nv12": "NV12",
    "nv16": "NV16",
    "yuyv422": "YUYV",
    "uyvy422": "UYVY",
    "gray": "GREY",
    "rgb24": "RGB24",
}
_PLANAR = frozenset({"I420", "I444", "GREY"})  # turned plane by plane they stay what they are
_LIMITED, _FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG
_BT709 = 1  # AVCOL_SPC_BT709
_UNKNOWN = 2  # AVCOL_SPC_UNSPECIFIED
_KNOWN_SPACES = frozenset({0, _BT709, _UNKNOWN, 4, 5, 6})  # RGB, 709, none said, FCC, 601 twice
_USUAL_RATE = 25  # frames a second, where nothing says how many
_SECONDS = 10.0  # that a stream may take to open, or to send something


class VideoSource:
    """A video that FFmpeg can open: a path, an address with ``://``, or a device ``/dev/video…``.

    ``live`` where it has no length and is no file on a disk: cameras and broadcasts. Raises
    PictureError when it cannot be opened.
    """

    def __init__(self, address: str, *, threads: int = 1) -> None:
        self.name = address
        self.damaged = 0
        self._threads = threads
        self._container = self._open()
        # Files may not tell their length either (raw H.264, a recording that was broken off).
        self.live = self._container.duration is None and not Path(address).is_file()

    @property
    def is_still(self) -> bool:
        """Whether this is a file of one picture, whose own decoder knows more about it."""
        name: str = self._container.format.name
        return name == "image2" or name.endswith("_pipe")

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames from the beginning, or, of a live source, from now."""
        with self._errors_named():
            container = self._container if self._container is not None else self._open()
            self._container = None
            with container:
                yield from self._decode(container)

    def close(self) -> None:
        """Close what was opened and never read; what is being read closes itself."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> av.container.InputContainer:
        options = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp") else {}
        with self._errors_named():
            if "://" in self.name:
                container = av.open(self.name, options=options, timeout=_SECONDS)
            elif self.name.startswith("/dev/"):
                container = av.open(self.name, format="v4l2", timeout=_SECONDS)
            else:  # "file:" keeps FFmpeg from reading an address into a file's name
                container = av.open(f"file:{self.name}")
        if not container.streams.video:
            container.close()
            raise PictureError("{source}: there is no video in it", source=self.name)
        container.streams.video[0].thread_type = "AUTO"
        container.streams.video[0].codec_context.thread_count = self._threads
        return container

    def _decode(self, container: av.container.InputContainer) -> Iterator[TimedFrame]:
        stream = container.streams.video[0]
        first: float | None = None
        index = 0
        seconds = 0.0
        for packet in container.demux(stream):
            for frame in self._decoded(packet):
                time = frame.time
                if container.format.name == "mpjpeg":  # FFmpeg supposes 25 frames a second
                    time = monotonic()
                if time is None:  # raw H.264 has no times: frames come as often as it says
                    time = float(index / (stream.average_rate or _USUAL_RATE))
                if first is None:
                    first = time
                seconds = max(seconds, time - first)
                yield TimedFrame(index, seconds, self._frame(frame), partial(_upright_rgb, frame))
                index += 1
        self._check_end(container, index)

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        """Return the frames that a packet completes; what cannot be decoded is counted."""
        try:
            frames: list[av.VideoFrame] = packet.decode()
        except av.error.InvalidDataError:
            self.damaged += 1
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return frames

    def _check_end(self, container: av.container.InputContainer, frames: int) -> None:
        """Raise PictureError where a file ends before it should."""
        expected = container.streams.video[0].frames
        if not frames:
            raise PictureError("{source}: no frame of it can be decoded", source=self.name)
        if not self.live and frames + self.damaged < expected:
            raise PictureError(
                "{source}: it ends after {frames} of {expected} frames: the file is cut short",
                source=self.name,
                frames=frames,
                expected=expected,
            )

    def _frame(self, frame: av.VideoFrame) -> Frame:
        """Return the planes of a decoded frame, upright, with the colours that it says it has."""
        rotation = frame.rotation
        name = _FORMATS.get(frame.format.name)
        standard, value_range = _colours(frame)
        strange = frame.colorspace not in _KNOWN_SPACES
        if name is None or strange or (rotation and name not in _PLANAR):
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            name, standard, value_range = "I420", BT709, "limited"
        planes = [_plane(plane) for plane in frame.planes]
        if rotation:  # anticlockwise, in degrees
            planes = [
                np.ascontiguousarray(np.rot90(rows[:, : plane.width], rotation // 90))
                for plane, rows in zip(frame.planes, planes, strict=True)
            ]
        width, height = frame.width, frame.height
        if rotation % 180:
            width, height = height, width
        return Frame.from_planes(
            name,
            planes,
            width,
            height,
            standard=standard,
            value_range=value_range,
            siting="center" if frame.format.name.startswith("yuvj") else "left",
            name=self.name,
        )

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except av.error.ExitError:
            raise PictureError(
                "{source}: nothing came for {seconds:g} s", source=self.name, seconds=_SECONDS
            ) from None
        except (av.error.FFmpegError, OSError) as error:
            raise PictureError(
                "{source}: {problem}", source=self.name, problem=_reason(error)
            ) from None


def _colours(frame: av.VideoFrame) -> tuple[Standard | None, Range | None]:
    """Return standard and range as far as the frame says them; None is for ``Frame`` to choose."""
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    if frame.colorspace == _UNKNOWN:
        standard = BT601 if full else None  # full range without a word is JPEG
    else:
        standard = BT709 if frame.colorspace == _BT709 else BT601
    return standard, "full" if full else "limited" if frame.color_range == _LIMITED else None


def _plane(plane: av.VideoPlane) -> npt.NDArray[np.uint8]:
    """Return a plane [height, bytes of a row]: a view of FFmpeg's memory, which it keeps."""
    height, stride = plane.height, plane.line_size
    return np.frombuffer(plane, np.uint8)[: height * stride].reshape(height, stride)


def _upright_rgb(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Return what a frame shows, uint8 [H, W, 3]."""
    pixels: npt.NDArray[np.uint8] = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    return pixels


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()


def is_address(source: str) -> bool:
    """Return whether ``source`` is for FFmpeg alone: an address, or a camera."""
    return "://" in source or (source.startswith("/dev/") and Path(source).is_char_device())
