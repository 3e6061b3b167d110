"""Options that say what raw frames are, for the verbs that take them."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from lushan.errors import UsageError

if TYPE_CHECKING:  # most calls name pictures: they start sooner
    from lushan.image.color import Range
    from lushan.image.frame_stream import RawLayout

_SIZE = re.compile(r"([0-9]{1,6})[xX×]([0-9]{1,6})")


class Standard(str, Enum):
    """The standards of raw frames, by number."""

    bt601 = "601"
    bt709 = "709"


class ValueRange(str, Enum):
    """Which values raw frames use."""

    full = "full"
    limited = "limited"


RawOption = Annotated[
    str | None,
    typer.Option(
        "--raw",
        metavar="FORMAT",
        help="Raw frames: i420, i422, i444, nv12, nv16, yuyv, uyvy, grey, rgb24.",
    ),
]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Size of raw frames, in pixels.")
]
StrideOption = Annotated[
    int | None, typer.Option("--stride", help="Bytes from row to row of raw frames.")
]
StandardOption = Annotated[
    Standard | None, typer.Option("--standard", help="BT.601 or BT.709; by height if not given.")
]
RangeOption = Annotated[
    ValueRange | None,
    typer.Option("--range", help="Of raw frames; limited if not given, full for grey, rgb24."),
]


def raw_layout(
    raw: str | None,
    size: str | None,
    stride: int | None,
    standard: Standard | None,
    value_range: ValueRange | None,
) -> RawLayout | None:
    """Return what the options of a command say, None where it is not about raw frames.

    Raises UsageError for options that say too little, and for what no frame can be.
    """
    if raw is None:
        for option, value in (
            ("--size", size),
            ("--stride", stride),
            ("--standard", standard),
            ("--range", value_range),
        ):
            if value is not None:
                raise UsageError("{option} is about raw frames: give --raw too", option=option)
        return None
    from lushan.image.color import BT601, BT709
    from lushan.image.frame_stream import RawLayout
    from lushan.image.raw_frame import raw_format

    layout = raw_format(raw)
    if size is None:
        raise UsageError("--raw needs --size, such as 1920x1080: raw frames do not tell theirs")
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise UsageError(
            "--size should be WIDTHxHEIGHT, such as 1920x1080; received {value!r}", value=size
        )
    width, height = int(match[1]), int(match[2])
    known = {None: None, Standard.bt601: BT601, Standard.bt709: BT709}[standard]
    values: Range | None = None
    if value_range is not None:
        values = "full" if value_range is ValueRange.full else "limited"
    found = RawLayout(layout, width, height, stride, known, values)
    _ = found.frame_bytes  # a size or stride that cannot be is told before anything is read
    return found
