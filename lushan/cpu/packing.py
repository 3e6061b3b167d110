"""Weights in the order that kernels read them, made once and shared by every picture size.

A convolution reads panels of NR output channels, [OC/NR, KH, KW, IC, NR]: NR numbers side by side
for each term of the sum. Files hold [OC, IC, KH, KW], so packing turns a hundred megabytes round;
a generated kernel does it a square of vectors at a time, in registers, and multiplies by what a
folded batch norm scales each channel with. What does not fill squares (three input channels, the
last few outputs) is packed by NumPy.

Lowering reserves memory, in the order of execution; ``finish`` then reads and writes all weights,
on as many threads as it is given. What an earlier process kept (``weight_cache``) is written
already.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from ctypes import CFUNCTYPE, c_int64, c_void_p
from enum import IntEnum, auto
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu.code import CodeStore
from lushan.cpu.emit import I32, KernelEmitter, Value
from lushan.cpu.memory import WeightMemory
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel
from lushan.cpu.weight_cache import WeightCache
from lushan.errors import GraphError
from lushan.graph.weights import Factors, Shape, factors_of, shape_of
from lushan.record import record

Panels: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32]]"  # weights and biases
Allocate: TypeAlias = "Callable[[Shape], NDArray[np.float32]]"  # memory for an array of a shape
Packed = TypeVar("Packed")
_PROTOTYPE = CFUNCTYPE(None, c_void_p, c_void_p, c_int64)


class Packer:
    """The weights of one program, original and packed.

    Those called ``updated`` change from run to run: they must be float32 arrays in one piece, and
    stay where they are. One thread at a time may lower with it and finish.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.float32]],
        target: Target,
        store: CodeStore,
        cache: WeightCache | None = None,
        updated: Collection[str] = (),
    ) -> None:
        self._weights = weights
        self._updated = frozenset(updated)
        self._own: dict[str, NDArray[np.float32]] = {}
        self._cache = cache
        self._arrays = cache.read() if cache else {}  # by the text of their key
        self._packed: dict[Hashable, Any] = {}
        self._unwritten: list[Callable[[], None]] = []
        self._memory = WeightMemory()
        self.writer = PanelWriter(target, store)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the original weights called ``name`` as float32: read for this call, not kept."""
        self._check(name)
        return np.asarray(self._weights[name], np.float32)

    def array(self, name: str) -> NDArray[np.float32]:
        """Return the original weights called ``name`` in one piece, always at the same address."""
        if name not in self._own:
            self._own[name] = np.ascontiguousarray(self[name], np.float32)
        return self._own[name]

    def changes(self, *names: str) -> bool:
        """Return whether any of these weights changes from run to run."""
        return not self._updated.isdisjoint(names)

    def factors(self, name: str) -> Factors:
        """Return the original weights called ``name`` as factors, of their own type."""
        self._check(name)
        return factors_of(self._weights, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the weights called ``name``, without reading them."""
        self._check(name)
        return shape_of(self._weights, name)

    def _check(self, name: str) -> None:
        if name not in self._weights:
            raise GraphError("the CPU engine takes {name!r} only as a parameter", name=name)

    def once(
        self,
        key: Hashable,
        reserve: Callable[[Allocate], Packed],
        write: Callable[[Packed], None],
    ) -> Packed:
        """Return what ``reserve`` made of the memory it was given when ``key`` was first asked for.

        ``finish`` has ``write`` fill it, in another thread perhaps, unless an earlier process did.
        """
        if key not in self._packed:
            kept = self._arrays.get(repr(key))
            if kept is not None:
                following = iter(kept)
                packed = reserve(lambda shape: next(following))
            else:
                arrays: list[NDArray[np.float32]] = []
                packed = reserve(partial(self._allocate, arrays))
                # In this order: a fork in between must not leave the child memory that nobody
                # writes.
                self._unwritten.append(partial(write, packed))
                self._arrays[repr(key)] = arrays
            self._packed[key] = packed
        found: Packed = self._packed[key]
        return found

    def _allocate(self, arrays: list[NDArray[np.float32]], shape: Shape) -> NDArray[np.float32]:
        """Return memory right behind that of the layer before, and add it to ``arrays``."""
        arrays.append(self._memory.allocate(shape))
        return arrays[-1]

    def finish(self, run: Callable[[Callable[[int], None]], None]) -> None:
        """Write what was reserved; ``run`` is that of a team.

        Raises what reading the weights raises; then nothing counts as written.
        """
        jobs = self._unwritten[::-1]  # deep layers are the largest: they come first
        cache, self._cache = self._cache, None  # other sizes may need more, but keep no file
        if not jobs:
            return
        claims = itertools.count()
        done = threading.Semaphore(0)
        failures: dict[int, BaseException] = {}

        def work(_: int) -> None:
            while (number := next(claims)) < len(jobs):
                try:
                    jobs[number]()
                except BaseException as error:  # the caller raises it
                    failures[number] = error
                done.release()

        run(work)
        for _ in jobs:
            done.acquire()
        if failures:
            raise failures[max(failures)]  # of several, what a single thread would meet first
        self._unwritten.clear()
        if cache:
            cache.write(self._arrays)


class PanelWriter:
    """Writes weights into panels; safe to use from several threads."""

    def __init__(self, target: Target, store: CodeStore) -> None:
        self.lanes = target.lanes
        self._store = store

    def reserve(self, shape: Shape, vectors: int, allocate: Allocate) -> Panels:
        """Return memory for weight [OC, KH, KW, IC] in panels of NR = vectors·lanes channels.

        That is [OC/NR, KH, KW, IC, NR], and [OC/NR, NR] for the bias.
        """
        oc, *window = shape
        nr = vectors * self.lanes
        blocks = -(-oc // nr)
        return allocate((blocks, *window, nr)), allocate((blocks, nr))

    def write(self, weight: Factors, packed: NDArray[np.float32]) -> None:
        """Write weight [OC, KH, KW, IC] into panels [OC/NR, KH, KW, IC, NR].

        The last panel is filled up with zeros.
        """
        array = np.asarray(weight.array, np.float32)
        oc, nr = len(array), packed.shape[-1]
        scale = np.ones(oc, np.float32)
        if weight.scale is not None:
            scale[:] = weight.scale
        if oc % nr:
            packed[-1] = 0
        done = self._turn(array, scale, packed) if array[0].size % self.lanes == 0 else 0
        for block in range(done // nr, len(packed)):
            start = max(done, block * nr)
            stop = (block + 1) * nr
            part = Factors(array[start:stop], scale[start:stop]).product()
            first = start - block * nr
            packed[block, ..., first : first + len(part)] = np.moveaxis(part, 0, -1)

    def _turn(
        self, weight: NDArray[np.float32], scale: NDArray[np.float32], packed: NDArray[np.float32]
    ) -> int:
        """Pack as many whole vectors of output channels as there are; return their channels.

        ``weight`` is [OC, KH, KW, IC] by its axes; in memory each output channel must be in one
        piece, in that order or in the order of files, [OC, IC, KH, KW].
        """
        _, kh, kw, ic = weight.shape
        terms = kh * kw * ic
        if weight[0].transpose(2, 0, 1).flags.c_contiguous:
            spread = kh * kw
        elif weight[0].flags.c_contiguous:
            spread = 1
        else:
            return 0
        groups = weight.shape[0] // self.lanes
        row: dict[Argument, int] = {
            Argument.SOURCE: weight.ctypes.data,
            Argument.TARGET: packed.ctypes.data,
            Argument.SCALE: scale.ctypes.data,
            Argument.SOURCE_CHANNEL: weight.strides[0] // weight.itemsize,
            Argument.TERMS: terms,
            Argument.SPREAD: spread,
            Argument.RUN: terms // spread,
            Argument.PANEL_CHANNELS: packed.shape[-1],
        }
        self.run(PackingKernel(), [row[index] for index in Argument], groups)
        done: int = groups * self.lanes
        return done

    def run(self, kernel: Kernel, arguments: list[int], chunks: int) -> None:
        """Run all chunks of a kernel on this thread; its arguments are absolute addresses."""
        function = _PROTOTYPE(self._store.addresses([kernel])[kernel])
        numbers = np.array(arguments, np.int64)
        for chunk in range(chunks):
            function(None, numbers.ctypes.data, chunk)


class Argument(IntEnum):
    """The arguments of the packing kernel; a chunk is one vector of output channels."""

    SOURCE = 0
    TARGET = auto()
    SCALE = auto()  # one factor for each output channel
    SOURCE_CHANNEL = auto()  # elements from one output channel to the next
    TERMS = auto()  # of one output channel, a multiple of the lanes
    SPREAD = auto()  # neighbours in the source are so many places of a cycle apart …
    RUN = auto()  # … and places are so long: term k goes to (k mod SPREAD)·RUN + k div SPREAD
    PANEL_CHANNELS = auto()  # NR


@record
class PackingKernel:
    """Turns vectors of terms of L channels into vectors of L channels of a term, scaled."""

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        lanes = target.lanes
        nr, terms = e.argument(Argument.PANEL_CHANNELS), e.argument(Argument.TERMS)
        first = e.mul(e.chunk, lanes)
        panel, channel = e.divide(first, nr)
        start = e.mul(first, e.argument(Argument.SOURCE_CHANNEL))
        source = e.offset(e.absolute(Argument.SOURCE), start)
        place = e.add(e.mul(panel, e.mul(terms, nr)), channel)
        packed = e.offset(e.absolute(Argument.TARGET), place)
        scale = e.load(e.absolute(Argument.SCALE), first)

        def square(term: Value) -> None:
            rows = [
                e.load(source, e.add(term, e.mul(row, e.argument(Argument.SOURCE_CHANNEL))))
                for row in range(lanes)
            ]
            for column, vector in enumerate(transpose(e, rows)):
                turn, within = e.divide(e.add(term, column), e.argument(Argument.SPREAD))
                to = e.add(e.mul(within, e.argument(Argument.RUN)), turn)
                e.store(e.builder.fmul(vector, scale), packed, e.mul(to, nr))

        e.loop(0, terms, square, step=lanes)
        return e.text()


def transpose(e: KernelEmitter, rows: list[Value]) -> list[Value]:
    """Transpose L vectors of L numbers: swap off-diagonal halves, then quarters, and so on."""
    lanes = len(rows)
    for bit in (1 << shift for shift in range(int(math.log2(lanes)))):
        low = [j if not j & bit else lanes + j - bit for j in range(lanes)]
        high = [j + bit if not j & bit else lanes + j for j in range(lanes)]
        turned = list(rows)
        for i in (i for i in range(lanes) if not i & bit):
            a, b = rows[i], rows[i + bit]
            for place, picks in ((i, low), (i + bit, high)):
                mask = ir.Constant(ir.VectorType(I32, lanes), [I32(j) for j in picks])
                turned[place] = e.builder.shuffle_vector(a, b, mask)
        rows = turned
    return rows
