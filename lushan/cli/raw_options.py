"""Options that say what raw frames are, for the verbs that take them."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from lushan.errors import UsageError

if TYPE_CHECKING:  # loaded with the first raw frame
    from lushan.image.frame_stream import FrameLayout


class StandardName(str, Enum):
    """The weights of red, green and blue in luma."""

    bt601 = "bt601"
    bt709 = "bt709"


class RangeName(str, Enum):
    """Which 8-bit values are used."""

    full = "full"
    limited = "limited"


RawOption = Annotated[
    str | None,
    typer.Option(
        "--raw",
        help="Raw frames of this format: i420, i422, i444, nv12, nv16, yuyv, uyvy, grey, rgb24.",
    ),
]
SizeOption = Annotated[
    str | None, typer.Option("--size", help="Width and height of raw frames: 1920x1080.")
]
StandardOption = Annotated[
    StandardName | None,
    typer.Option("--standard", help="Of raw frames; bt709 from 720 rows on if not given."),
]
RangeOption = Annotated[
    RangeName | None,
    typer.Option("--range", help="Of raw frames; limited if not given, full for grey and rgb24."),
]


def frame_layout(
    raw: str | None,
    size: str | None,
    standard: StandardName | None = None,
    value_range: RangeName | None = None,
) -> FrameLayout | None:
    """Return what the options say of raw frames, None where there are none.

    Raises UsageError for options that say too little, or what cannot be.
    """
    if raw is None:
        for name, value in (("size", size), ("standard", standard), ("range", value_range)):
            if value is not None:
                raise UsageError("--{name} is for raw frames: give --raw, too", name=name)
        return None
    from lushan.image.color import BT601, BT709
    from lushan.image.frame_stream import FrameLayout

    if size is None:
        raise UsageError("raw frames need their size: --size 1920x1080")
    sides = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", size, re.IGNORECASE)
    if sides is None:
        raise UsageError("--size should be like 1920x1080; received {size!r}", size=size)
    standards = {None: None, StandardName.bt601: BT601, StandardName.bt709: BT709}
    return FrameLayout(
        raw,
        int(sides[1]),
        int(sides[2]),
        standard=standards[standard],
        value_range=value_range.value if value_range is not None else None,
    )
