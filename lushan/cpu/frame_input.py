"""Raw frames to network inputs on the CPU engine: the tables of ``frame_kernel``, and its calls.

The tables of a plan depend on the kind of frame, not on its memory, and are made once. What a call
adds is addresses. The kernel reads whole tiles of columns, past the end of a row if need be: what
it finds there has no weight, and is memory of the frame except after the frame's last rows, of
which a call makes a copy with room behind.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import STEP
from lushan.cpu.code import CodeStore, code_store
from lushan.cpu.frame_kernel import (
    COLOURS,
    Argument,
    ChannelArgument,
    FrameKernel,
    PlaneArgument,
    constants_of,
)
from lushan.cpu.locks import Locked
from lushan.cpu.memory import allocate_bytes
from lushan.cpu.target import Target, detect
from lushan.image.frame_input import TERMS, FramePlan, Sums, plan_frame
from lushan.image.preprocess import Preprocessing
from lushan.image.raw_frame import Frame
from lushan.passes.plan_memory import ALIGNMENT
from lushan.record import record

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_KINDS_KEPT = 8
_WORD = 4  # bytes of a float32, and of a pair of 16-bit numbers


class FrameReader(Locked):
    """Makes the inputs of one network of raw frames, bit for bit as ``frame_input`` defines them.

    Several threads may call it at once; a call runs on its own thread.
    """

    def __init__(self, preprocessing: Preprocessing, target: Target | None = None) -> None:
        super().__init__()
        self._preprocessing = preprocessing
        self._target = target or detect()
        self._store: CodeStore = code_store(self._target)
        self._tables: OrderedDict[tuple[object, ...], _Tables] = OrderedDict()

    def __call__(self, frame: Frame) -> Floats:
        """Return the input of the network for ``frame``: float32 [height, width, 3]."""
        plan = plan_frame(frame, self._preprocessing)
        result = plan.empty_input()
        left, top, width, height = plan.inside
        if width and height:
            tables = self._tables_for(frame, plan)
            tables.run(frame.planes, result[top : top + height, left : left + width])
        return result

    def _tables_for(self, frame: Frame, plan: FramePlan) -> _Tables:
        strides = tuple(plane.strides[0] for plane in frame.planes)
        key = (plan, strides)  # plans are compared as objects: the same while it is remembered
        with self._lock:
            tables = self._tables.get(key)
            if tables is not None:
                self._tables.move_to_end(key)
                return tables
        tables = _Tables(frame, plan, self._target, self._store)
        with self._lock:
            self._tables[key] = tables
            while len(self._tables) > _KINDS_KEPT:
                self._tables.popitem(last=False)
        return tables


@record(eq=False)
class _Rows:
    """The tables of one plane; offsets count from the address of its first byte.

    ``offsets`` int64 [height, 4 · steps]; ``weights`` int32 [height, steps, 2]. The rows ``last``
    of the plane are too near the end of its memory: ``late`` are the flat places of their offsets,
    and ``copies`` the offsets into a copy that has them instead.
    """

    offsets: Integers
    weights: NDArray[np.int32]
    steps: int
    tiles: int
    first_column: int
    last: Integers
    late: Integers
    copies: Integers
    copy_row: int

    def addresses(self, plane: Bytes) -> tuple[Integers, Bytes]:
        """Return the addresses of the rows of ``plane``, and the copy that some of them are in."""
        addresses = self.offsets + plane.ctypes.data
        if not self.last.size:
            return addresses, plane
        copy = np.empty((self.last.size, self.copy_row), np.uint8)
        part = plane[self.last, self.first_column :][:, : self.copy_row]
        copy[:, : part.shape[1]] = part
        addresses.reshape(-1)[self.late] = self.copies + copy.ctypes.data
        return addresses, copy


class _Tables:
    """All that the kernel needs for frames of one kind but the addresses of a call."""

    def __init__(self, frame: Frame, plan: FramePlan, target: Target, store: CodeStore) -> None:
        lanes = target.lanes
        _, _, width, height = plan.inside
        # The kernel writes whole vectors: it wants as many rows, and values in a row, as lanes.
        self._height, self._width = max(height, lanes), max(width, -(-lanes // COLOURS))
        kernel = FrameKernel(tuple(plane for plane, _ in plan.columns), TERMS[plan.colour])
        self._kernel = kernel
        self._function = _PROTOTYPE(store.addresses([kernel])[kernel])
        self._store = store  # the code lives as long as this
        starts = [
            _first_column(plane, plan, number, STEP * lanes)
            for number, plane in enumerate(frame.planes)
        ]
        self._rows = [
            _rows(_padded(sums, self._height), plane, *start, STEP * lanes)
            for sums, plane, start in zip(plan.rows, frame.planes, starts, strict=True)
        ]
        self._columns = [
            _columns(_padded(sums, self._width), *starts[plane], STEP * lanes)
            for plane, sums in plan.columns
        ]
        self._constants = constants_of(plan.coefficients, plan.offsets, plan.factors, plan.shifts)
        pairs = [rows.tiles * 2 * lanes for rows in self._rows]
        self._scratch = [
            _WORD * lanes * size for size in (max(pairs), COLOURS * self._width, *pairs)
        ]
        self._arguments = self._fixed_arguments()

    def _fixed_arguments(self) -> Integers:
        kernel = self._kernel
        arguments = np.zeros(kernel.argument_count, np.int64)
        arguments[Argument.HEIGHT] = self._height
        arguments[Argument.WIDTH] = self._width
        arguments[Argument.CONSTANTS] = self._constants.ctypes.data
        for number, rows in enumerate(self._rows):
            for which, value in (
                (PlaneArgument.WEIGHTS, rows.weights.ctypes.data),
                (PlaneArgument.STEPS, rows.steps),
                (PlaneArgument.TILES, rows.tiles),
            ):
                arguments[kernel.plane_argument(number, which)] = value
        for number, (starts, weights) in enumerate(self._columns):
            for which_, value in (
                (ChannelArgument.STARTS, starts.ctypes.data),
                (ChannelArgument.WEIGHTS, weights.ctypes.data),
                (ChannelArgument.COUNT, weights.shape[1]),
            ):
                arguments[kernel.channel_argument(number, which_)] = value
        return arguments

    def run(self, planes: Sequence[Bytes], output: Floats) -> None:
        """Write the input for these planes to ``output``, [height, width, 3]."""
        target = output
        if output.shape[:2] != (self._height, self._width):
            target = np.empty((self._height, self._width, COLOURS), np.float32)
        arguments = self._arguments.copy()
        arguments[Argument.OUTPUT] = target.ctypes.data
        arguments[Argument.OUTPUT_ROW] = target.strides[0] // target.itemsize
        scratch = allocate_bytes(sum(self._scratch) + ALIGNMENT * len(self._scratch))
        place = scratch.ctypes.data
        slots = [
            self._kernel.plane_argument(number, PlaneArgument.PAIRS)
            for number in range(len(self._rows))
        ]
        for slot, size in zip(
            (Argument.MIDDLE, Argument.COLOURED, *slots), self._scratch, strict=True
        ):
            arguments[slot] = place
            place += -(-size // ALIGNMENT) * ALIGNMENT
        kept = []  # until the kernel returns
        for number, (rows, plane) in enumerate(zip(self._rows, planes, strict=True)):
            addresses, copy = rows.addresses(plane)
            kept.append((addresses, copy))
            slot = self._kernel.plane_argument(number, PlaneArgument.ADDRESSES)
            arguments[slot] = addresses.ctypes.data
        self._function(None, arguments.ctypes.data, 0)
        if target is not output:
            output[...] = target[: output.shape[0], : output.shape[1]]


def _padded(sums: Sums, targets: int) -> Sums:
    """Return ``sums`` for so many targets at least: the last one again and again."""
    places = np.minimum(np.arange(max(targets, len(sums.starts))), len(sums.starts) - 1)
    return Sums(sums.starts[places], sums.weights[places])


def _used(sums: Sums) -> tuple[Integers, Integers]:
    """Return for each target the first place that has a weight, and the one after the last."""
    there = sums.weights != 0
    firsts = sums.starts + there.argmax(axis=1)
    stops = sums.starts + there.shape[1] - there[:, ::-1].argmax(axis=1)
    return firsts, stops


def _first_column(plane: Bytes, plan: FramePlan, number: int, tile: int) -> tuple[int, int]:
    """Return the first byte of a row that is read, and how many tiles from there on.

    Where rows are long enough, what the tiles have too many lies before what is wanted.
    """
    used = [_used(sums) for index, sums in plan.columns if index == number]
    first = min(int(firsts.min()) for firsts, _ in used)
    stop = max(int(stops.max()) for _, stops in used)
    tiles = -(-(stop - first) // tile)
    return max(0, min(first, plane.shape[1] - tiles * tile)), -(-(stop - first) // tile)


def _rows(sums: Sums, plane: Bytes, first_column: int, tiles: int, tile: int) -> _Rows:
    firsts, stops = _used(sums)
    taps = int((stops - firsts).max())
    steps = -(-taps // STEP)
    places = firsts[:, None] + np.arange(STEP * steps)
    weights = _weights_at(sums, places)
    places = np.minimum(places, stops[:, None] - 1)  # no weight: any row will do
    low = (weights + 128) % 256 - 128
    quads = np.stack([(weights - low) // 256, low], axis=1).astype(np.int8)  # [h, 2, 4 · steps]
    quads = quads.reshape(len(firsts), 2, steps, STEP).transpose(0, 2, 1, 3)
    stride, length = plane.strides[0], plane.shape[1]
    rows = np.arange(plane.shape[0], dtype=np.int64)
    end = max(0, stride * (len(rows) - 1)) + length  # of the plane's memory
    beyond = rows * stride + first_column + tiles * tile > end
    last = rows[beyond & np.isin(rows, places)]
    late = np.flatnonzero(np.isin(places, last))
    copy_row = tiles * tile
    return _Rows(
        offsets=places * stride + first_column,
        weights=np.ascontiguousarray(quads).view(np.int32).reshape(len(firsts), steps, 2),
        steps=steps,
        tiles=tiles,
        first_column=first_column,
        last=last,
        late=late,
        copies=np.searchsorted(last, places.reshape(-1)[late]) * copy_row,
        copy_row=copy_row,
    )


def _columns(
    sums: Sums, first_column: int, tiles: int, tile: int
) -> tuple[Integers, NDArray[np.int32]]:
    """Return the first pair [width] and the weights by pairs, int32 [width, pairs]."""
    firsts, stops = _used(sums)
    starts = (firsts - first_column) // 2
    count = int((-(-(stops - first_column) // 2) - starts).max())
    starts = np.minimum(starts, tiles * tile // 2 - count)  # whole windows within the tiles
    places = first_column + 2 * starts[:, None] + np.arange(2 * count)
    weights = _weights_at(sums, places).astype(np.int16)
    return starts, np.ascontiguousarray(weights).view(np.int32)


def _weights_at(sums: Sums, places: Integers) -> Integers:
    """Return the weights that the source samples at ``places`` [targets, any] have."""
    taps = places - sums.starts[:, None]
    inside = (taps >= 0) & (taps < sums.weights.shape[1])
    found = np.take_along_axis(sums.weights, np.clip(taps, 0, sums.weights.shape[1] - 1), axis=1)
    return np.where(inside, found, 0)
