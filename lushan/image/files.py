"""Finding the pictures in a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from lushan.errors import PictureError
from lushan.image.sources import source_name

# What counts as a picture in a folder; a file that is named directly may have any name.
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm "
    ".avif .jp2 .j2k .tga .ico".split()
)


def find_pictures(
    folder: Path,
    *,
    suffixes: frozenset[str] = SUFFIXES,
    on_error: Callable[[PictureError], None] | None = None,
) -> Iterator[Path]:
    """Yield the pictures below ``folder``, in order of their paths.

    Told by their suffix, one of ``suffixes`` in lower case; hidden files and folders are passed
    over, links to folders not followed.
    ``on_error`` is told of a folder that cannot be read; without it, that is raised.
    """

    def tell(error: OSError) -> None:
        problem = PictureError(
            "{source}: this folder cannot be read ({reason})",
            source=source_name(error.filename),
            reason=error.strerror,
        )
        if on_error is None:
            raise problem from error
        on_error(problem)

    for root, folders, files in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes and is_file(path):
                yield path


def is_file(path: str | Path) -> bool:
    """Return whether ``path`` is to be read as a file: not a folder, pipe, socket or device.

    A pipe among the files of a folder would keep a program waiting for ever. What cannot even be
    looked at (a broken link) counts as a file, so that reading it says why.
    """
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return True
