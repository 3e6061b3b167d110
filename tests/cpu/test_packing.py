"""Packing equals its definition, for weights as files and as graphs hold them."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.cpu.code import code_store
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target


@pytest.mark.parametrize("as_in_files", [True, False])
@pytest.mark.parametrize(
    "shape", [(64, 1, 1, 32), (70, 3, 3, 16), (5, 3, 3, 16), (32, 7, 7, 3), (1000, 1, 1, 64)]
)
@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_panels(
    target: Target, shape: tuple[int, int, int, int], vectors: int, as_in_files: bool
) -> None:
    oc, kh, kw, ic = shape
    random = np.random.default_rng(0)
    if as_in_files:
        stored = random.standard_normal((oc, ic, kh, kw), np.float32)
        weight = stored.transpose(0, 2, 3, 1)
    else:
        weight = random.standard_normal(shape, np.float32)
    bias = random.standard_normal(oc, np.float32)
    packed, biases = Packer({}, target, code_store(target)).panels(weight, bias, vectors)
    nr = vectors * target.lanes
    expected = np.zeros((-(-oc // nr) * nr, kh, kw, ic), np.float32)
    expected[:oc] = weight
    assert np.array_equal(packed, np.moveaxis(expected.reshape(-1, nr, kh, kw, ic), 1, -1))
    assert np.array_equal(biases.reshape(-1)[:oc], bias)
    assert not biases.reshape(-1)[oc:].any()
