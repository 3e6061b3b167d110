"""How the Y′CbCr planes of one video frame lie in memory.

    planar       I444 I422 I420   all of Y′, then all of Cb, then all of Cr
    semi-planar  NV16 NV12        all of Y′, then Cb and Cr in turns: Cb Cr Cb Cr …
    packed       YUYV UYVY        two pixels in four bytes: Y′ Cb Y′ Cr, or Cb Y′ Cr Y′

I444 keeps all chroma (4:4:4); I422, NV16, YUYV and UYVY half of it (4:2:2); I420 and NV12 a
quarter (4:2:0). Odd sizes round chroma up; a packed row of odd width repeats its last luma. This
file says what the formats mean. It is not the fast path for cameras, and has no formats with more
than 8 bits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from lushan.errors import UsageError
from lushan.image.color import (
    BT601,
    Bytes,
    Range,
    Sampling,
    Siting,
    Standard,
    chroma_size,
    rgb_to_ycbcr,
    subsample,
    upsample,
    ycbcr_to_rgb,
)
from lushan.record import record


@record
class FrameFormat:
    """A memory layout of Y′CbCr samples."""

    name: str
    sampling: Sampling
    kind: Literal["planar", "semi-planar", "packed"]

    def row_bytes(self, width: int) -> int:
        """Return the bytes of one row of luma, or of a packed row, without padding."""
        return 4 * _half_up(width) if self.kind == "packed" else width

    def chroma_row_bytes(self, width: int) -> int:
        """Return the bytes of one row of a chroma plane; packed formats have none."""
        chroma_width, _ = chroma_size(width, 1, self.sampling)
        return {"planar": chroma_width, "semi-planar": 2 * chroma_width, "packed": 0}[self.kind]

    def chroma_stride(self, width: int, stride: int) -> int:
        """Return the bytes from one chroma row to the next, for luma rows ``stride`` apart.

        A semi-planar chroma row is as long as a luma row, a planar one as its share of it.
        """
        if self.kind == "packed":
            return 0
        halved = self.kind == "planar" and self.sampling != "4:4:4"
        padded = _half_up(stride) if halved else stride
        return max(padded, self.chroma_row_bytes(width))


_FORMATS = (
    FrameFormat("I444", "4:4:4", "planar"),
    FrameFormat("I422", "4:2:2", "planar"),
    FrameFormat("I420", "4:2:0", "planar"),
    FrameFormat("NV16", "4:2:2", "semi-planar"),
    FrameFormat("NV12", "4:2:0", "semi-planar"),
    FrameFormat("YUYV", "4:2:2", "packed"),
    FrameFormat("UYVY", "4:2:2", "packed"),
)
FORMAT_NAMES = tuple(known.name for known in _FORMATS)

# Where the samples of a packed row start, and that Cb and Cr each come once in four bytes.
PACKED_STARTS = {"YUYV": (0, 1, 3), "UYVY": (1, 0, 2)}


@record
class Planes:
    """The samples of one frame. y: [H, W]; cb, cr: [h, w] as the sampling leaves them; uint8."""

    y: Bytes
    cb: Bytes
    cr: Bytes


def frame_format(name: str) -> FrameFormat:
    """Return the format called ``name``; raise ``UsageError`` listing those there are."""
    for known in _FORMATS:
        if known.name == name:
            return known
    raise UsageError(
        "frame format {name} is not known; there are {known}",
        name=repr(name),
        known=", ".join(FORMAT_NAMES),
    )


def frame_size(format_name: str, width: int, height: int, stride: int | None = None) -> int:
    """Return the bytes of one frame; ``stride`` as for ``unpack``."""
    layout = frame_format(format_name)
    stride = _checked_stride(layout, width, height, stride)
    _, chroma_height = chroma_size(width, height, layout.sampling)
    chroma_planes = {"planar": 2, "semi-planar": 1, "packed": 0}[layout.kind]
    return stride * height + chroma_planes * layout.chroma_stride(width, stride) * chroma_height


def pack(planes: Planes, format_name: str) -> Bytes:
    """Return the bytes [frame_size] of a frame with these planes, rows without padding.

    Raises ``UsageError`` when the chroma planes have not the size that the format wants.
    """
    layout = frame_format(format_name)
    height, width = planes.y.shape
    expected = chroma_size(width, height, layout.sampling)[::-1]
    for plane in (planes.cb, planes.cr):
        if plane.shape != expected:
            raise UsageError(
                "{format} of {width}×{height} has chroma planes {expected}, not {shape}",
                format=format_name,
                width=width,
                height=height,
                expected=list(expected),
                shape=list(plane.shape),
            )
    if layout.kind == "planar":
        return np.concatenate([planes.y.ravel(), planes.cb.ravel(), planes.cr.ravel()])
    if layout.kind == "semi-planar":
        chroma = np.stack([planes.cb, planes.cr], axis=-1)  # [h, w, 2]
        return np.concatenate([planes.y.ravel(), chroma.ravel()])
    luma = np.pad(planes.y, ((0, 0), (0, width % 2)), mode="edge")
    frame = np.empty((height, layout.row_bytes(width)), dtype=np.uint8)
    y, cb, cr = PACKED_STARTS[layout.name]
    frame[:, y::2], frame[:, cb::4], frame[:, cr::4] = luma, planes.cb, planes.cr
    return frame.ravel()


def unpack(
    buffer: bytes | bytearray | memoryview | Bytes,
    format_name: str,
    width: int,
    height: int,
    stride: int | None = None,
) -> Planes:
    """Return the planes of the frame in ``buffer``, as views of it: nothing is copied.

    ``stride`` is the bytes from one row of luma (packed: of everything) to the next where rows
    are padded; chroma rows are padded in proportion. Bytes after the frame are left alone.
    Raises ``UsageError`` when the buffer is too short.
    """
    layout = frame_format(format_name)
    stride = _checked_stride(layout, width, height, stride)
    if isinstance(buffer, np.ndarray):
        frame = buffer.reshape(-1).view(np.uint8)
    else:
        frame = np.frombuffer(buffer, dtype=np.uint8)
    needed = frame_size(format_name, width, height, stride)
    if frame.size < needed:
        raise UsageError(
            "a {format} frame of {width}×{height} takes {needed} bytes, there are {size}",
            format=format_name,
            width=width,
            height=height,
            needed=needed,
            size=frame.size,
        )
    rows = frame[: stride * height].reshape(height, stride)
    if layout.kind == "packed":
        y, cb, cr = PACKED_STARTS[layout.name]
        rows = rows[:, : layout.row_bytes(width)]
        return Planes(rows[:, y::2][:, :width], rows[:, cb::4], rows[:, cr::4])
    luma = rows[:, :width]
    chroma_width, chroma_height = chroma_size(width, height, layout.sampling)
    chroma_stride = layout.chroma_stride(width, stride)
    chroma = frame[stride * height : needed].reshape(-1, chroma_stride)
    if layout.kind == "semi-planar":
        chroma = chroma[:, : 2 * chroma_width]
        return Planes(luma, chroma[:, 0::2], chroma[:, 1::2])
    chroma = chroma[:, :chroma_width]
    return Planes(luma, chroma[:chroma_height], chroma[chroma_height:])


def rgb_to_frame(
    rgb: Bytes,
    format_name: str,
    *,
    standard: Standard = BT601,
    value_range: Range = "limited",
    siting: Siting = "left",
) -> Bytes:
    """Return the bytes of the frame that shows ``rgb``, uint8 [H, W, 3].

    The defaults are those of raw video of standard definition; JPEG's are full and centre.
    """
    sampling = frame_format(format_name).sampling
    y, cb, cr = np.moveaxis(rgb_to_ycbcr(rgb, standard, value_range), -1, 0)
    planes = Planes(y, subsample(cb, sampling, siting), subsample(cr, sampling, siting))
    return pack(planes, format_name)


def frame_to_rgb(
    buffer: bytes | bytearray | memoryview | Bytes,
    format_name: str,
    width: int,
    height: int,
    stride: int | None = None,
    *,
    standard: Standard = BT601,
    value_range: Range = "limited",
    siting: Siting = "left",
) -> Bytes:
    """Return what a frame shows, uint8 [height, width, 3]; arguments as for ``rgb_to_frame``."""
    planes = unpack(buffer, format_name, width, height, stride)
    sampling = frame_format(format_name).sampling
    cb = upsample(planes.cb, width, height, sampling, siting)
    cr = upsample(planes.cr, width, height, sampling, siting)
    return ycbcr_to_rgb(np.stack([planes.y, cb, cr], axis=-1), standard, value_range)


def _half_up(size: int) -> int:
    return (size + 1) // 2


def _checked_stride(layout: FrameFormat, width: int, height: int, stride: int | None) -> int:
    if width < 1 or height < 1:
        raise UsageError("a frame of {width}×{height} has no pixels", width=width, height=height)
    tight = layout.row_bytes(width)
    if stride is not None and stride < tight:
        raise UsageError(
            "a {format} row of {width} pixels takes {tight} bytes; the stride {stride} is less",
            format=layout.name,
            width=width,
            tight=tight,
            stride=stride,
        )
    return tight if stride is None else stride
