"""Winograd's weights: each 3×3 kernel becomes the P numbers that products are made with.

The meaning is ``winograd_transform.transform_weight``, number for number: in float64, every term
multiplied and added in that order. A panel is packed as for a direct convolution first, so that
channels lie side by side, and goes through the generated kernel while it is in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.packing import PanelWriter
from lushan.cpu.target import Target
from lushan.cpu.winograd_tiles import store_points
from lushan.cpu.winograd_tiling import choose_winograd_vectors, winograd_products
from lushan.cpu.winograd_transform import TAPS, matrices
from lushan.graph.weights import Factors
from lushan.record import record


def winograd_shape(shape: Sequence[int], outputs: int, target: Target) -> tuple[int, ...]:
    """Return [OC/NR, P, IC, NR], the order in which a chunk reads weight [OC, 3, 3, IC]."""
    oc, _, _, ic = shape
    nr = choose_winograd_vectors(oc, target) * target.lanes
    return oc // nr, winograd_products(outputs), ic, nr


def write_winograd_weights(
    weight: Factors, outputs: int, packed: NDArray[np.float32], writer: PanelWriter
) -> None:
    """Transform weight [OC, 3, 3, IC] for tiles of so many outputs, into [OC/NR, P, IC, NR]."""
    _, _, ic, nr = packed.shape
    taps = np.empty((1, TAPS, TAPS, ic, nr), np.float32)
    for number, panel in enumerate(packed):
        channels = slice(number * nr, (number + 1) * nr)
        scale = None if weight.scale is None else weight.scale[channels]
        writer.write(Factors(weight.array[channels], scale), taps)
        writer.run(
            WinogradWeightKernel(outputs), [taps.ctypes.data, panel.ctypes.data, ic * nr], chunks=1
        )


class Argument(IntEnum):
    """The arguments of the kernel, which has one chunk."""

    SOURCE = 0  # a panel of weights [3, 3, IC, NR]
    TARGET = auto()  # [P, IC, NR]
    LENGTH = auto()  # IC·NR, a multiple of the lanes


@record
class WinogradWeightKernel:
    """Transforms a panel, a vector of pairs of channels at a time."""

    outputs: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        source, packed = e.absolute(Argument.SOURCE), e.absolute(Argument.TARGET)
        length = e.argument(Argument.LENGTH)

        def vector(place: Value) -> None:
            taps = [e.load(source, e.add(place, e.mul(length, tap))) for tap in range(TAPS * TAPS)]
            lines = transform_taps(e, taps, self.outputs)
            store_points(e, lines, e.offset(packed, place), length)

        e.loop(0, length, vector, step=target.lanes)
        return e.text()


def transform_taps(e: KernelEmitter, taps: Sequence[Value], outputs: int) -> list[list[Value]]:
    """Return the P numbers of each lane of nine vectors of taps; in float64, rounded once."""
    wide = ir.VectorType(ir.DoubleType(), e.target.lanes)
    G = [
        [ir.Constant(wide, [ir.Constant(ir.DoubleType(), float(number))] * e.target.lanes)
         for number in row]
        for row in matrices(outputs)[2]
    ]  # fmt: skip

    def multiply(taps: Sequence[Value]) -> list[Value]:
        """Return G·taps."""
        b = e.builder
        terms = [[b.fmul(number, tap) for number, tap in zip(g, taps, strict=True)] for g in G]
        return [b.fadd(b.fadd(first, second), third) for first, second, third in terms]

    doubles = [e.builder.fpext(tap, wide) for tap in taps]
    columns = [multiply(doubles[column::TAPS]) for column in range(TAPS)]
    lines = [multiply(row) for row in zip(*columns, strict=True)]
    return [[e.builder.fptrunc(number, e.vector) for number in line] for line in lines]
