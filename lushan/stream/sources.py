"""Which source of frames an address means."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lushan.errors import MissingExtraError, PictureError
from lushan.image.frame_stream import STDIN, RawLayout
from lushan.stream.raw import RawSource
from lushan.stream.stills import StillSource
from lushan.stream.timed_frame import FrameSource


def open_source(
    address: str,
    *,
    layout: RawLayout | None = None,
    rate: float | None = None,
    threads: int = 1,
) -> FrameSource:
    """Return the source that ``address`` means.

    With ``layout`` it has raw frames, of ``rate`` a second if that is known: ``-`` is standard
    input, else it is a file. Without, it is a video, a stream's address, a camera or a picture.
    Raises PictureError when it cannot be opened, MissingExtraError where PyAV is missing.
    """
    if layout is not None:
        return RawSource(address, layout, rate=rate)
    if address == STDIN:
        raise PictureError(
            "<stdin>: raw frames need their format and size: --raw nv12 --size 1920x1080"
        )
    if "://" not in address:
        _check_file(address)
    try:
        from lushan.stream.video import VideoSource
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'to watch videos and cameras, an extra is needed: pip install "lushan[video]" '
            "(missing: {module})",
            module=error.name,
        ) from None
    video = VideoSource(address, threads=threads)
    if not video.is_still:
        return video
    video.close()
    return StillSource(Path(address))


def _check_file(path: str) -> None:
    """Raise PictureError for what is no file, or an empty one."""
    try:
        status = os.stat(path)  # noqa: PTH116 (raises on no name whatever)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError("{source}: {problem}", source=path, problem=problem) from None
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(
            "{source}: a folder is no video; lushan classify takes folders of pictures", source=path
        )
    if stat.S_ISREG(status.st_mode) and not status.st_size:
        raise PictureError("{source}: the file is empty", source=path)
