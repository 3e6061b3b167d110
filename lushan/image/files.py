"""Finding the pictures in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# What counts as a picture in a folder; a file that is named directly may have any name.
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm "
    ".avif .jp2 .j2k .tga .ico".split()
)


def find_pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures below ``folder``, in order of their paths.

    Told by their suffix; hidden files and folders are passed over, links to folders not followed.
    """
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root, name)
