"""The loop of multiply-adds: it computes what it says, so it was not optimised away."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.bench.peak import MultiplyAddKernel, Peak
from lushan.cpu import llvm
from lushan.cpu.target import LEVELS, detect
from lushan.errors import UsageError


def test_the_sums_are_those_of_the_recurrence() -> None:
    peak = Peak()
    assert peak() > 1e6
    accumulators = detect().registers - 4
    limit = 1e-3 / (1 - 1e-3)  # where s → a·s + b ends, from anywhere
    np.testing.assert_allclose(peak.result(), accumulators * limit, rtol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_no_register_is_spilled(level: str) -> None:
    try:
        target = detect(level)
    except UsageError as error:
        pytest.skip(str(error))
    text = MultiplyAddKernel(target.registers - 4).emit("multiply_add", target)
    assert "Spill" not in llvm.assembly(text, target)
