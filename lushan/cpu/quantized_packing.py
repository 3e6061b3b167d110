"""Weights and constants of layers on bytes, in the order that kernels read them.

A kernel reads panels [OC/NR, KH, KW, Q, NR, 4]: of each output channel of a panel the weights for
four neighbouring bytes. Where products are summed in pairs they are int16, [..., Q, NV, 2, L, 2]:
for each vector of L channels the first two weights of all, then the last two. Memory is that of
``packing``, which counts in float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.byte_emit import QUAD, weight_bytes
from lushan.cpu.packing import Allocate
from lushan.cpu.quantized_convolution import Packed
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT
from lushan.reference.requantization import Requantization


def reserve_bytes(size: int, allocate: Allocate) -> NDArray[np.uint8]:
    """Return memory for ``size`` bytes."""
    return allocate((-(-size // FLOAT),)).view(np.uint8)[:size]


def reserve_packed(
    shape: tuple[int, int, int, int], run: int, vectors: int, target: Target, allocate: Allocate
) -> Packed:
    """Return memory for weight [OC, KH, KW, IC], of which ``run`` columns are one run of bytes."""
    oc, kh, kw, ic = shape
    nr = vectors * target.lanes
    blocks, quads = -(-oc // nr), -(-run * ic // QUAD)
    panels = (blocks, kh, kw // run, quads, nr, QUAD * weight_bytes(target))
    weights = reserve_bytes(math.prod(panels), allocate).view(np.int8).reshape(panels)
    return Packed(weights, allocate((blocks, nr)), allocate((blocks, nr)), allocate((2,)))


def write_packed(
    weight: NDArray[np.int8],
    constants: Requantization,
    part: slice,
    packed: Packed,
    run: int,
    target: Target,
) -> None:
    """Write weight int8 [OC, KH, KW, IC], the ``part`` of a layer that ``packed`` is for."""
    write_weights(weight, packed.weights, run, target.lanes)
    for array, numbers in (
        (packed.multiplier, constants.multiplier),
        (packed.offset, constants.offset),
    ):
        array[-1] = 0
        array.reshape(-1)[: len(weight)] = numbers[part]
    packed.numbers[:] = constants.shortcut_multiplier, constants.low or 0


def write_weights(weight: NDArray[np.int8], panels: NDArray[np.int8], run: int, lanes: int) -> None:
    """Write weight [OC, KH, KW, IC] into panels; what fills them up is 0."""
    oc, kh, kw, ic = weight.shape
    blocks, _, _, quads, nr, width = panels.shape
    lines = np.ascontiguousarray(weight).reshape(oc, kh, kw // run, run * ic)
    if lines.shape[-1] != quads * QUAD or oc != blocks * nr:
        full = np.zeros((blocks * nr, kh, kw // run, quads * QUAD), np.int8)
        full[:oc, ..., : run * ic] = lines
        lines = full
    # [OC/NR, NR, KH, KW, Q] of four bytes each.
    words = lines.view(np.int32).reshape(blocks, nr, kh, kw // run, quads)
    turned = words.transpose(0, 2, 3, 4, 1)
    if width == QUAD:
        panels.view(np.int32)[..., 0] = turned
        return
    pairs = np.ascontiguousarray(turned).view(np.int8)
    pairs = pairs.reshape(*turned.shape[:-1], -1, lanes, 2, 2)  # [..., NV, L, 2, 2]
    target = panels.reshape(*turned.shape[:-1], -1).view(np.int16)
    target.reshape(*turned.shape[:-1], -1, 2, lanes, 2)[...] = np.moveaxis(pairs, -2, -3)
