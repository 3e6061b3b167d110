"""One picture of a camera or a video, as its planes lie in memory: nothing is converted.

``Frame`` holds views of somebody's memory and says what they mean. Its layouts are those of
``frame``, and two without Y′CbCr:

    GREY     one plane of Y′, nothing else
    RGB24    packed: R G B R G B …

What a network sees of a frame is defined in ``frame_input``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from lushan.errors import PictureTooLargeError, UsageError
from lushan.image.color import (
    BT601,
    BT709,
    Bytes,
    Range,
    Siting,
    Standard,
    chroma_size,
    upsample,
    ycbcr_to_rgb,
)
from lushan.image.frame import FORMAT_NAMES, PACKED_STARTS, FrameFormat, frame_format, frame_size
from lushan.record import record

if TYPE_CHECKING:
    from lushan.image.decode import InputReport

GREY, RGB24 = "GREY", "RGB24"
RAW_FORMATS = (*FORMAT_NAMES, GREY, RGB24)

# What V4L2, FFmpeg and GStreamer call the same bytes.
_ALIASES = {
    "YUV444P": "I444",
    "YUVJ444P": "I444",
    "Y444": "I444",
    "YUV422P": "I422",
    "YUVJ422P": "I422",
    "Y42B": "I422",
    "YUV420P": "I420",
    "YUVJ420P": "I420",
    "YU12": "I420",
    "YUYV422": "YUYV",
    "YUY2": "YUYV",
    "UYVY422": "UYVY",
    "GRAY": GREY,
    "GRAY8": GREY,
    "RGB": RGB24,
}
MAX_PIXELS = 178_000_000
"""Frames with more pixels are refused, as pictures are."""
MAX_SIDE = 65_535  # as of JPEG: what is made for a target pixel grows with the side

_HIGH_DEFINITION_ROWS = 720


def raw_format(name: str) -> str:
    """Return the format called ``name``, in any case, or by its name elsewhere (yuv420p, GRAY8).

    Raises ``UsageError`` listing those there are.
    """
    upper = str(name).upper()
    known = _ALIASES.get(upper, upper)
    if known not in RAW_FORMATS:
        raise UsageError(
            "frame format {name} is not known; there are {known}",
            name=repr(name),
            known=", ".join(RAW_FORMATS),
        )
    return known


def raw_frame_size(format_name: str, width: int, height: int, stride: int | None = None) -> int:
    """Return the bytes of one frame in one piece; ``stride`` as for ``Frame.from_bytes``."""
    name = raw_format(format_name)
    _check_size(width, height)
    if name in FORMAT_NAMES:
        return frame_size(name, width, height, stride)
    return _checked_stride(name, width, height, stride) * height


@record(eq=False)
class Frame:
    """A frame of a camera or a video: planes, and what they mean.

    ``planes`` are uint8 [rows, bytes of a row], views with any stride from row to row: Y′, Cb and
    Cr of a planar format; Y′ and the pairs Cb Cr of a semi-planar one; else one plane. Make one by
    ``from_bytes`` or ``from_planes``, which check that everything fits.
    """

    format: str  # one of RAW_FORMATS
    width: int  # pixels
    height: int  # pixels
    planes: tuple[Bytes, ...]
    standard: Standard
    value_range: Range
    siting: Siting
    name: str = "<frame>"  # what messages and reports call it

    @classmethod
    def from_bytes(
        cls,
        buffer: bytes | bytearray | memoryview | Bytes,
        format: str,
        width: int,
        height: int,
        stride: int | None = None,
        *,
        standard: Standard | None = None,
        value_range: Range | None = None,
        siting: Siting = "left",
        name: str = "<frame>",
    ) -> Frame:
        """Return the frame in ``buffer``, without a copy; bytes after it are left alone.

        ``stride`` is the bytes from one row of the first plane to the next, where rows are padded;
        chroma rows are padded in proportion. ``standard`` None is BT.709 from 720 rows on and
        BT.601 below; ``value_range`` None is full for RGB24 and GREY, else limited. Raises
        ``UsageError`` when the buffer is too short or something is not known.
        """
        layout = raw_format(format)
        needed = raw_frame_size(layout, width, height, stride)
        flat = _flat(buffer)
        if flat.size < needed:
            raise UsageError(
                "a {format} frame of {width}×{height} takes {needed} bytes, there are {size}",
                format=layout,
                width=width,
                height=height,
                needed=needed,
                size=flat.size,
            )
        planes = []
        start = 0
        for rows, length, stride_ in _extents(layout, width, height, stride):
            plane = flat[start : start + rows * stride_].reshape(rows, stride_)
            planes.append(plane[:, :length])
            start += plane.size
        return cls.from_planes(
            layout,
            planes,
            width,
            height,
            standard=standard,
            value_range=value_range,
            siting=siting,
            name=name,
        )

    @classmethod
    def from_planes(
        cls,
        format: str,
        planes: Sequence[Bytes],
        width: int,
        height: int,
        *,
        standard: Standard | None = None,
        value_range: Range | None = None,
        siting: Siting = "left",
        name: str = "<frame>",
    ) -> Frame:
        """Return a frame of planes that lie apart, without a copy.

        ``planes`` are uint8 [rows, bytes of a row], as the class says; rows may be longer than
        needed, there may be more of them, and each plane has its own stride, which may be
        negative; the bytes of a row follow each other. The rest is as for ``from_bytes``.
        """
        layout = raw_format(format)
        _check_size(width, height)
        _check_choice("range", value_range, (None, "full", "limited"))
        _check_choice("siting", siting, ("left", "center"))
        if standard is not None and not isinstance(standard, Standard):
            raise UsageError(
                "a frame's standard is BT601 or BT709 of lushan.image.color; received {value!r}",
                value=standard,
            )
        extents = _extents(layout, width, height, None)
        if len(planes) != len(extents):
            raise UsageError(
                "{format} has {expected} planes; received {count}",
                format=layout,
                expected=len(extents),
                count=len(planes),
            )
        fitting = tuple(
            _fitting(layout, plane, rows, length)
            for plane, (rows, length, _) in zip(planes, extents, strict=True)
        )
        usual: Range = "full" if layout in (GREY, RGB24) else "limited"
        return cls(
            layout,
            width,
            height,
            fitting,
            standard or (BT709 if height >= _HIGH_DEFINITION_ROWS else BT601),
            value_range or usual,
            siting,
            name,
        )

    def to_rgb(self) -> Bytes:
        """Return all of the frame as RGB, uint8 [height, width, 3]: for people, not for speed."""
        if self.format == RGB24:
            rgb: Bytes = self.planes[0].reshape(self.height, self.width, 3).copy()
            return rgb
        y, cb, cr = self._samples()
        if self.format == GREY:
            chroma = [np.full_like(y, 128)] * 2
        else:
            sampling = frame_format(self.format).sampling
            chroma = [
                upsample(np.ascontiguousarray(c), self.width, self.height, sampling, self.siting)
                for c in (cb, cr)
            ]
        return ycbcr_to_rgb(np.stack([y, *chroma], axis=-1), self.standard, self.value_range)

    def _samples(self) -> tuple[Bytes, Bytes, Bytes]:
        """Return views of all Y′, all Cb and all Cr."""
        if len(self.planes) == 3:
            y, cb, cr = self.planes
            return y, cb, cr
        if len(self.planes) == 2:
            return self.planes[0], self.planes[1][:, 0::2], self.planes[1][:, 1::2]
        rows = self.planes[0]
        if self.format == GREY:
            return rows, rows, rows
        y_start, cb_start, cr_start = PACKED_STARTS[self.format]
        return (
            rows[:, y_start::2][:, : self.width],
            rows[:, cb_start::4],
            rows[:, cr_start::4],
        )

    def report(self) -> InputReport:
        """Return what the input report of an answer says of this frame."""
        from lushan.image.decode import InputReport

        return InputReport(
            source=self.name,
            format=self.format,
            width=self.width,
            height=self.height,
            mode={GREY: "L", RGB24: "RGB"}.get(self.format, "YCbCr"),
            bits_per_channel=8,
            orientation=1,
            alpha_composited=False,
            frames=1,
            frame=0,
            color_profile=None,
            color_converted=False,
            ignored=(),
        )


def _extents(
    layout: str, width: int, height: int, stride: int | None
) -> list[tuple[int, int, int]]:
    """Return (rows, bytes of a row, bytes from row to row) of each plane."""
    stride = _checked_stride(layout, width, height, stride)
    first = (height, _row_bytes(layout, width), stride)
    known = _format_of(layout)
    if known is None or known.kind == "packed":
        return [first]
    _, rows = chroma_size(width, height, known.sampling)
    chroma = (rows, known.chroma_row_bytes(width), known.chroma_stride(width, stride))
    return [first, chroma] if known.kind == "semi-planar" else [first, chroma, chroma]


def _format_of(layout: str) -> FrameFormat | None:
    return frame_format(layout) if layout in FORMAT_NAMES else None


def _row_bytes(layout: str, width: int) -> int:
    known = _format_of(layout)
    if known is not None:
        return known.row_bytes(width)
    return 3 * width if layout == RGB24 else width


def _checked_stride(layout: str, width: int, height: int, stride: int | None) -> int:
    _check_size(width, height)
    tight = _row_bytes(layout, width)
    if stride is not None and stride < tight:
        raise UsageError(
            "a {format} row of {width} pixels takes {tight} bytes; the stride {stride} is less",
            format=layout,
            width=width,
            tight=tight,
            stride=stride,
        )
    return tight if stride is None else stride


def _check_size(width: int, height: int) -> None:
    for side in (width, height):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)):
            raise UsageError("a side of a frame is a whole number; received {value!r}", value=side)
    if width < 1 or height < 1:
        raise UsageError("a frame of {width}×{height} has no pixels", width=width, height=height)
    if max(width, height) > MAX_SIDE:
        raise PictureTooLargeError(
            "a frame of {width}×{height}: no side may be over {limit} pixels",
            width=width,
            height=height,
            limit=MAX_SIDE,
        )
    if width * height > MAX_PIXELS:
        raise PictureTooLargeError(
            "{source}: {width}×{height} is more than {limit} pixels; make it smaller",
            source="<frame>",
            width=width,
            height=height,
            limit=MAX_PIXELS,
        )


def _check_choice(name: str, value: object, accepted: tuple[object, ...]) -> None:
    if value not in accepted:
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name=name,
            accepted=", ".join(str(one) for one in accepted if one),
            value=value,
        )


def _fitting(layout: str, plane: Bytes, rows: int, length: int) -> Bytes:
    """Return the part of ``plane`` that is the frame's; raises UsageError if that is not there."""
    array = np.asarray(plane)
    fits = array.dtype == np.uint8 and array.ndim == 2
    if not fits or array.shape[0] < rows or array.shape[1] < length:
        raise UsageError(
            "a plane of {format} should be uint8 {expected} or larger; received {dtype} {shape}",
            format=layout,
            expected=[rows, length],
            dtype=array.dtype.name,
            shape=list(array.shape),
        )
    if length > 1 and array.strides[1] != 1:
        raise UsageError(
            "the bytes of a row should follow each other; this plane has strides {strides}",
            strides=list(array.strides),
        )
    return array[:rows, :length]


def _flat(buffer: bytes | bytearray | memoryview | Bytes) -> Bytes:
    received = type(buffer).__name__
    if isinstance(buffer, np.ndarray):
        if buffer.dtype == np.uint8:
            return buffer.reshape(-1)
        received = buffer.dtype.name
    else:
        with suppress(TypeError, ValueError, AttributeError):
            return np.frombuffer(buffer, dtype=np.uint8)
    raise UsageError("a frame is made of bytes or a uint8 array; received {type}", type=received)
