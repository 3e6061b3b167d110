"""Winograd's gradient by the weight against the reference, on every instruction set."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cpu.test_winograd import Exact, error, numbers
from lushan.cpu.target import Target
from lushan.cpu.task import Plane
from lushan.cpu.tiling import fits
from lushan.cpu.winograd_gradient import winograd_gradient_tasks
from lushan.cpu.winograd_tiling import (
    choose_winograd_gradient_cut,
    choose_winograd_gradient_tile,
    winograd_products,
)
from lushan.cpu.winograd_transform import FINITE, matrices, transform_gradient
from lushan.reference.convolution import convolution_backward_weight
from support.native_tasks import each_target, run_tasks

Array = NDArray[np.float32]
each_scheme = pytest.mark.parametrize("outputs", FINITE)


def gradient(
    grad_y: Array, x: Array, outputs: int, target: Target, halo: tuple[int, int, int, int]
) -> Array:
    """Run it, its chunks in several orders: NaN is in all it must write before it reads."""
    planes = [Plane("grad_y", grad_y.shape, halo), Plane("x", x.shape, halo[::-1])]
    y = Plane("y", (grad_y.shape[3], 3, 3, x.shape[3]))
    tasks, temporaries = winograd_gradient_tasks(*planes, y, outputs, target)
    inputs = dict(zip(planes, (grad_y, x), strict=True))
    (result,) = run_tasks(tasks, inputs, [y], target, between=temporaries, halo=0.0)
    return result


def meaning(grad_y: Array, x: Array) -> NDArray[np.float64]:
    wide = [array.astype(np.float64) for array in (grad_y, x)]
    return convolution_backward_weight(*wide, kernel=(3, 3), padding=1)


@each_scheme
def test_straight_lines_are_the_matrix(outputs: int) -> None:
    A, _, _ = matrices(outputs)
    for place, row in enumerate(A):
        unit = [Fraction(int(place == k)) for k in range(outputs)]
        assert transform_gradient(unit, Exact()) == row


@each_target
@settings(max_examples=12)
@given(data=st.data())
def test_equals_the_reference(target: Target, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    outputs = data.draw(st.sampled_from(list(FINITE)))
    n, height, width = draw(1, 3), draw(outputs, 15), draw(outputs, 15)
    ic, oc = target.lanes * draw(1, 5), target.lanes * draw(1, 5)
    halo = (draw(1, 2), draw(1, 2), draw(1, 2), draw(1, 2))
    seed = draw(0, 2**32)
    grad_y, x = numbers(seed, n, height, width, oc), numbers(seed + 1, n, height, width, ic)
    assert error(gradient(grad_y, x, outputs, target, halo), meaning(grad_y, x)) <= 1e-5


@each_target
@pytest.mark.parametrize(
    ("outputs", "shape", "channels"),
    [
        (4, (16, 32, 32), (16, 16)),  # slices
        (4, (20, 14, 14), (112, 160)),  # a segment whose sums run over two blocks
        (2, (4, 7, 9), (64, 128)),
        (2, (16, 20, 20), (96, 192)),  # two segments
    ],
)
def test_many_tiles(
    target: Target, outputs: int, shape: tuple[int, int, int], channels: tuple[int, int]
) -> None:
    ic, oc = channels
    grad_y, x = numbers(0, *shape, oc), np.maximum(numbers(1, *shape, ic), 0)
    result = gradient(grad_y, x, outputs, target, (1, 1, 1, 1))
    assert error(result, meaning(grad_y, x)) <= 1e-5


@each_target
def test_every_tile_has_its_place_in_one_slice_or_segment(target: Target) -> None:
    for outputs in FINITE:
        for tiles in (1, 7, 100, 255, 8192):
            for ic, oc in ((16, 16), (64, 64), (32, 128), (128, 128), (512, 512)):
                cut = choose_winograd_gradient_cut(tiles, outputs, ic, oc)
                whole = cut.slices * cut.tiles_per_slice if not cut.shared else 0
                assert cut.shared or whole - cut.tiles_per_slice < tiles <= whole
                assert 1 <= cut.strip <= (tiles if cut.shared else cut.tiles_per_slice)
                scratch = 4 * winograd_products(outputs) * (ic + oc) * cut.strip
                assert cut.shared or scratch <= 2**20
                tile = choose_winograd_gradient_tile(oc, ic, target)
                assert fits(tile, target)
                assert ic % (tile.vectors * target.lanes) == 0
                assert target.lanes % tile.pixels == 0
