"""The loop of multiply-adds: it computes what it says, so it was not optimised away."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.bench.peak import STEPS, MultiplyAddKernel, Peak
from lushan.cpu import llvm
from lushan.cpu.byte_arithmetic import registers_of_a_step
from lushan.cpu.target import LEVELS, detect
from lushan.errors import UsageError


def test_the_sums_are_those_of_the_recurrence() -> None:
    peak = Peak()
    assert peak() > 1e6
    accumulators = detect().registers - 4
    limit = 1e-3 / (1 - 1e-3)  # where s → a·s + b ends, from anywhere
    np.testing.assert_allclose(peak.result(), accumulators * limit, rtol=1e-5)


def test_the_sums_of_bytes_are_counted() -> None:
    peak = Peak("int8")
    assert peak() > 1e6
    accumulators = detect().registers - 4 - max(0, 2 * registers_of_a_step(detect()) - 3)
    expected = accumulators * STEPS * 4  # products of 1 and 1
    np.testing.assert_array_equal(peak.result().view(np.int32), expected)


@pytest.mark.parametrize("level", LEVELS)
def test_no_register_is_spilled(level: str) -> None:
    try:
        target = detect(level)
    except UsageError as error:
        pytest.skip(str(error))
    text = MultiplyAddKernel(target.registers - 4).emit("multiply_add", target)
    assert "Spill" not in llvm.assembly(text, target)
