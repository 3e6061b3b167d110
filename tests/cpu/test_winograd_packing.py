"""Packed weights of Winograd's convolution are the transform's definition, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.cpu.code import code_store
from lushan.cpu.packing import PanelWriter
from lushan.cpu.target import Target
from lushan.cpu.winograd_packing import winograd_shape, write_winograd_weights
from lushan.cpu.winograd_transform import transform_weight
from lushan.graph.weights import Factors


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("channels", [(16, 16), (64, 32), (48, 80)])
def test_weights_are_transformed(
    target: Target, channels: tuple[int, int], scaled: bool, outputs: int
) -> None:
    oc, ic = channels
    random = np.random.default_rng(1)
    weight = random.standard_normal((oc, ic, 3, 3), np.float32).transpose(0, 2, 3, 1)
    factors = Factors(weight, random.standard_normal(oc, np.float32) if scaled else None)
    packed = np.full(winograd_shape(weight.shape, outputs, target), np.nan, np.float32)
    write_winograd_weights(factors, outputs, packed, PanelWriter(target, code_store(target)))
    numbers = transform_weight(factors.product().transpose(1, 2, 3, 0), outputs)  # [6, 6, IC, OC]
    blocks, products, _, nr = packed.shape
    expected = numbers.astype(np.float32).reshape(products, ic, blocks, nr)
    assert np.array_equal(packed, expected.transpose(2, 0, 1, 3))
