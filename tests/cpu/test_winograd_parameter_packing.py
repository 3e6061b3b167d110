"""Winograd's weights, packed in every run: the same numbers as those that are packed once."""

from __future__ import annotations

import numpy as np
import pytest

from cpu.test_winograd import numbers
from lushan.cpu.target import Target
from lushan.cpu.winograd_packing import winograd_shape
from lushan.cpu.winograd_parameter_packing import pack_winograd_weights
from lushan.cpu.winograd_tiling import WINOGRAD_SKEW
from lushan.cpu.winograd_transform import FINITE, transform_weight
from support.native_tasks import Memory, Runner, each_target


@each_target
@pytest.mark.parametrize("outputs", FINITE)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("channels", [(1, 3), (2, 1), (2, 4)])
def test_equals_the_meaning(
    target: Target, outputs: int, backward: bool, channels: tuple[int, int]
) -> None:
    oc, ic = (target.lanes * vectors for vectors in channels)
    weight = numbers(0, oc, 3, 3, ic)
    task, plane = pack_winograd_weights(weight, outputs, target, name="w", backward=backward)
    memory = Memory([plane])
    Runner([task], memory, target).run(poison=True)
    # What the convolution is given: for the gradient by the input, turned round and transposed.
    seen = weight[:, ::-1, ::-1].transpose(3, 1, 2, 0) if backward else weight
    exact = transform_weight(seen.transpose(1, 2, 3, 0), outputs).astype(np.float32)
    blocks, products, terms, nr = winograd_shape(seen.shape, outputs, target)
    packed = memory.pixels(plane).reshape(blocks, products, terms * nr + WINOGRAD_SKEW)
    panels = packed[..., : terms * nr].reshape(blocks, products, terms, nr)
    expected = exact.reshape(products, terms, blocks, nr).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(panels, expected)
