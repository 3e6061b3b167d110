"""Makes a network's input of a decoded picture with the kernel of ``resize_kernel``.

The meaning, to the last bit, is ``Preprocessing``: resize by Pillow, crop, normalise. Here only
what the crop keeps is computed. Pillow does what the kernel is not for: pictures that it does not
lend, or that it begins to resize with the columns; filters with a sine or none; sizes that stay as
they are; very wide rows, and those shorter than the vectors of a sum.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.code import CodeStore, code_store
from lushan.cpu.locks import Locked
from lushan.cpu.resize_kernel import COLOURS, PIXEL, Argument, ResizeKernel, rows_together
from lushan.cpu.resize_tables import ResizeTables, make_tables
from lushan.cpu.target import Target, detect
from lushan.image.pillow_memory import rgb_pieces
from lushan.image.preprocess import Preprocessing
from lushan.image.resize import Size

if TYPE_CHECKING:
    from PIL import Image

    from lushan.image.decode import Picture

Floats = NDArray[np.float32]

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
# Tables that are remembered: 43 KB for 500×375 → 224×224, 130 KB for 4000×3000.
_SIZES_KEPT = 64
_BYTES_KEPT = 16 * 2**20


class PictureReader(Locked):
    """Makes the inputs of one network, bit for bit as its ``Preprocessing`` does.

    Several threads may call it at once; a call runs on its own thread.
    """

    def __init__(self, preprocessing: Preprocessing, target: Target | None = None) -> None:
        super().__init__()
        self._preprocessing = preprocessing
        self._target = target or detect()
        self._store: CodeStore = code_store(self._target)  # the code lives as long as this
        kernel = ResizeKernel()
        self._function = _PROTOTYPE(self._store.addresses([kernel])[kernel])
        self._by_size: OrderedDict[Size, ResizeTables | None] = OrderedDict()

    def __call__(self, picture: Picture) -> Floats:
        """Return the input of the network for ``picture``: float32 [height, width, 3]."""
        tables = self._tables_for(picture.image.size)
        made = None if tables is None else self._made(picture.image, tables)
        if tables is None or made is None:
            return self._preprocessing(picture)
        return tables.placed(made)

    def _tables_for(self, size: Size) -> ResizeTables | None:
        with self._lock:
            if size in self._by_size:
                self._by_size.move_to_end(size)
                return self._by_size[size]
        tables = make_tables(size, self._preprocessing, self._target.lanes)
        with self._lock:
            self._by_size[size] = tables
            while len(self._by_size) > 1 and self._keeps_too_much():
                self._by_size.popitem(last=False)
        return tables

    def _keeps_too_much(self) -> bool:
        held = sum(tables.bytes for tables in self._by_size.values() if tables)
        return len(self._by_size) > _SIZES_KEPT or held > _BYTES_KEPT

    def _made(self, image: Image.Image, tables: ResizeTables) -> Floats | None:
        """Return the part of the input that is picture, [H, W, 3], None if it is not lent."""
        height, width = len(tables.tops), len(tables.starts)
        middle = np.empty((tables.middle_rows + 1, tables.row_bytes), np.uint8)
        size = COLOURS * height * width
        result = np.empty(size + tables.constants.size, np.float32)
        arguments = np.zeros(len(Argument), np.int64)
        for which, value in (
            (Argument.SOURCE_ROW, PIXEL * tables.source_width),
            (Argument.WIDTH, width),
            (Argument.STARTS, tables.starts.ctypes.data),
            (Argument.ACROSS, tables.across.ctypes.data),
            (Argument.GROUPS, tables.across.shape[1]),
            (Argument.MIDDLE, middle.ctypes.data),
            (Argument.MIDDLE_ROW, tables.row_bytes),
            (Argument.TOPS, tables.tops.ctypes.data),
            (Argument.DOWN, tables.down.ctypes.data),
            (Argument.STEPS, tables.down.shape[1]),
            (Argument.LINE, middle[-1].ctypes.data),
            (Argument.CONSTANTS, tables.constants.ctypes.data),
            (Argument.RESULT, result.ctypes.data),
        ):
            arguments[which] = value
        least = rows_together(self._target.lanes)
        for first, pixels in rgb_pieces(image, tables.rows, least):
            # Another size: somebody changed the picture meanwhile.
            if pixels is None or pixels.shape[1] != tables.source_width:
                return None
            arguments[Argument.SOURCE] = pixels.ctypes.data
            arguments[Argument.ROWS] = len(pixels)
            arguments[Argument.FIRST] = first - tables.rows.start
            self._function(None, arguments.ctypes.data, 0)
        arguments[Argument.ROWS] = 0
        arguments[Argument.HEIGHT] = height
        self._function(None, arguments.ctypes.data, 0)
        return result[:size].reshape(height, width, COLOURS)
