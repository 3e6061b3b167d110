"""Where the numbers of a batch of pictures lie in memory: HWC, NHWC, NCHW and blocked NCHWc.

Memory is a row of numbered places. A layout says which place holds the value at picture n, row h,
column w, channel c, all counted from 0:

    HWC      (h·W + w)·C + c                            one picture, as files and screens have it
    NHWC     ((n·H + h)·W + w)·C + c                    a batch of them: what lushan's networks read
    NCHW     ((n·C + c)·H + h)·W + w                    one plane per channel: PyTorch, ONNX
    nChw16c  (((n·⌈C/16⌉ + c÷16)·H + h)·W + w)·16 + c mod 16
                                                        16 channels side by side fill a vector
                                                        register; any block size may stand for 16

The blocked layout pads the channels to whole blocks with zeros.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lushan.errors import UsageError
from lushan.record import record

Scalar = TypeVar("Scalar", bound=np.generic)

_BLOCKED = re.compile(r"nChw([1-9][0-9]{0,3})c")


class Shape(NamedTuple):
    """The sizes of a batch, whatever its layout: pictures, rows, columns, channels."""

    n: int
    h: int
    w: int
    c: int


@record
class Layout:
    """One order of the numbers in memory; ``parse_layout`` makes it from its name."""

    name: str
    block: int = 1  # channels that lie side by side in the blocked layout; 1: not blocked

    def array_shape(self, shape: Shape) -> tuple[int, ...]:
        """Return the shape of the NumPy array that holds ``shape`` in this layout."""
        n, h, w, c = _checked(shape)
        if self.name == "HWC":
            if n != 1:
                raise UsageError("layout HWC holds one picture, not {count}", count=n)
            return h, w, c
        if self.name == "NHWC":
            return n, h, w, c
        if self.name == "NCHW":
            return n, c, h, w
        return n, math.ceil(c / self.block), h, w, self.block

    def strides(self, shape: Shape) -> tuple[int, ...]:
        """Return, per axis of ``array_shape``, how many places apart two neighbours lie."""
        sizes = self.array_shape(shape)
        return tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))

    def address(self, shape: Shape, n: int, h: int, w: int, c: int) -> int:
        """Return the place, counted in elements, of the value at ``n``, ``h``, ``w``, ``c``."""
        for axis, index, size in zip("nhwc", (n, h, w, c), _checked(shape), strict=True):
            if not 0 <= index < size:
                raise UsageError(
                    "{axis}={index} is outside 0 to {last}", axis=axis, index=index, last=size - 1
                )
        index_in_layout = {
            "HWC": (h, w, c),
            "NHWC": (n, h, w, c),
            "NCHW": (n, c, h, w),
        }.get(self.name, (n, c // self.block, h, w, c % self.block))
        return sum(i * s for i, s in zip(index_in_layout, self.strides(shape), strict=True))

    def byte_address(
        self, shape: Shape, n: int, h: int, w: int, c: int, *, dtype: DTypeLike = np.uint8
    ) -> int:
        """Return the number of the first byte of a value whose type is ``dtype``."""
        return self.address(shape, n, h, w, c) * np.dtype(dtype).itemsize

    def size_in_bytes(self, shape: Shape, dtype: DTypeLike = np.uint8) -> int:
        """Return the memory that ``shape`` takes, padding included."""
        return math.prod(self.array_shape(shape)) * np.dtype(dtype).itemsize


HWC = Layout("HWC")
NHWC = Layout("NHWC")
NCHW = Layout("NCHW")


def parse_layout(name: str) -> Layout:
    """Return the layout called ``"HWC"``, ``"NHWC"``, ``"NCHW"`` or, blocked, ``"nChw16c"``."""
    for layout in (HWC, NHWC, NCHW):
        if name == layout.name:
            return layout
    match = _BLOCKED.fullmatch(name)
    if match is None:
        raise UsageError(
            "layout {name} is not known; there are HWC, NHWC, NCHW and blocked ones like nChw16c",
            name=repr(name),
        )
    return Layout(name, int(match[1]))


def shape_of(array: NDArray[np.generic], layout: Layout, channels: int | None = None) -> Shape:
    """Return the batch sizes of ``array``, which is in ``layout``.

    ``channels`` says how many channels of a blocked array are real; without it, all are.
    """
    axes = {"HWC": 3, "NHWC": 4, "NCHW": 4}.get(layout.name, 5)
    if array.ndim != axes or (axes == 5 and array.shape[4] != layout.block):
        raise UsageError(
            "an array of shape {shape} is not in layout {layout}",
            shape=list(array.shape),
            layout=layout.name,
        )
    if layout == HWC:
        return Shape(1, *array.shape)
    if layout == NHWC:
        return Shape(*array.shape)
    n, c, h, w = array.shape[:4]
    if layout == NCHW:
        return Shape(n, h, w, c)
    padded = c * layout.block
    if channels is not None and not padded - layout.block < channels <= padded:
        raise UsageError(
            "{channels} channels do not make {blocks} blocks of {block}",
            channels=channels,
            blocks=c,
            block=layout.block,
        )
    return Shape(n, h, w, padded if channels is None else channels)


def convert(
    array: NDArray[Scalar], source: Layout, target: Layout, channels: int | None = None
) -> NDArray[Scalar]:
    """Return ``array``, which is in layout ``source``, as a contiguous array in ``target``.

    ``channels`` is as for ``shape_of``. The result shares no memory with ``array``.
    """
    shape = shape_of(array, source, channels)
    return _from_nhwc(_to_nhwc(array, source, shape), target, shape)


def _to_nhwc(array: NDArray[Scalar], layout: Layout, shape: Shape) -> NDArray[Scalar]:
    if layout in (HWC, NHWC):
        return array.reshape(shape)
    if layout == NCHW:
        return np.transpose(array, (0, 2, 3, 1))
    n, h, w, c = shape
    # [N, C/b, H, W, b] → [N, H, W, C/b, b] → [N, H, W, C]
    padded: NDArray[Scalar] = array.transpose(0, 2, 3, 1, 4).reshape(n, h, w, -1)
    return padded[..., :c]


def _from_nhwc(array: NDArray[Scalar], layout: Layout, shape: Shape) -> NDArray[Scalar]:
    result = np.zeros(layout.array_shape(shape), dtype=array.dtype)
    if layout in (HWC, NHWC):
        result[...] = array.reshape(result.shape)
    elif layout == NCHW:
        result[...] = array.transpose(0, 3, 1, 2)
    else:
        for block in range(result.shape[1]):  # [N, H, W, ≤ b] each; the last may be partial
            part = array[..., block * layout.block : (block + 1) * layout.block]
            result[:, block, :, :, : part.shape[3]] = part
    return result


def _checked(shape: Shape) -> Shape:
    if min(shape) < 1:
        raise UsageError("every size of {shape} must be at least 1", shape=list(shape))
    return shape
