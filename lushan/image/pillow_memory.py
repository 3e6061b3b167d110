"""The pixels of a Pillow picture where they lie, without a copy.

Pillow lends a picture's memory by the Arrow C data interface (the standard's structure
``ArrowArray``) if it is one piece, which up to 16 MiB it is. Some versions before 13 lend it too,
but one never frees it, and others say nothing of padding between rows. An array that Pillow makes
is a copy, and packs the four bytes of a pixel to three: that takes as long as resizing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image


class _ArrowArray(ctypes.Structure):
    pass


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]  # and more, which is not read

_POINTER_OF = ctypes.pythonapi.PyCapsule_GetPointer
_POINTER_OF.restype = ctypes.c_void_p
_POINTER_OF.argtypes = [ctypes.py_object, ctypes.c_char_p]

PIECE_BYTES = 8 * 2**20  # half of what Pillow has in one piece


def lends() -> bool:
    """Return whether the installed Pillow lends its memory, and well."""
    return int(PIL.__version__.split(".")[0]) >= 13


def rgb_pieces(
    image: Image.Image, rows: range, least: int
) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
    """Yield ``rows`` of a picture as ``rgb_in_place`` has them, each piece with its first row.

    A picture in several pieces is copied, a few megabytes at a time, no fewer than ``least`` rows;
    the last piece may have some rows again. None stands for what Pillow does not lend.
    """
    if not lends():
        yield rows.start, None
        return
    whole = rgb_in_place(image)
    if whole is not None:
        part = whole[rows.start : rows.stop]
        yield rows.start, part if len(part) == len(rows) else None
        return
    count = min(len(rows), max(least, PIECE_BYTES // (4 * image.width)))
    for start in range(rows.start, rows.stop, count):
        first = min(start, rows.stop - count)
        yield first, rgb_in_place(image.crop((0, first, image.width, first + count)))


def rgb_in_place(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the pixels of a picture of mode RGB, uint8 [H, W, 4], the fourth byte unused.

    They are Pillow's own: read only, and alive as long as the array. None where Pillow does not
    lend them.
    """
    if not lends() or image.mode != "RGB":
        return None
    try:
        _, capsule = image.__arrow_c_array__()
    except (ValueError, MemoryError):  # in several pieces
        return None
    pixels = ctypes.cast(_POINTER_OF(capsule, b"arrow_array"), ctypes.POINTER(_ArrowArray))[0]
    if pixels.n_children != 1:
        return None
    values = pixels.children[0][0]
    size = 4 * image.width * image.height
    if values.n_buffers != 2 or values.offset or values.length != size:
        return None
    memory: Any = (ctypes.c_uint8 * size).from_address(values.buffers[1])
    memory.owner = capsule  # whose end frees the pixels
    array: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
    array.flags.writeable = False
    return array.reshape(image.height, image.width, 4)
