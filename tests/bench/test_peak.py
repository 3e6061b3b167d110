"""The loop of multiply-adds: it computes what it says, so it was not optimised away."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lushan.bench.peak import Peak, peak_kernel
from lushan.cpu import llvm
from lushan.cpu.byte_arithmetic import has_vnni, registers_of_a_step
from lushan.cpu.target import LEVELS, detect
from lushan.errors import UsageError


def test_the_sums_are_those_of_the_recurrence() -> None:
    peak = Peak()
    assert peak() > 1e6
    accumulators = detect().registers - 4
    limit = 1e-3 / (1 - 1e-3)  # where s → a·s + b ends, from anywhere
    np.testing.assert_allclose(peak.result(), accumulators * limit, rtol=1e-5)


def test_of_bytes_the_sums_are_those_of_the_recurrence() -> None:
    if not has_vnni(detect()):
        pytest.skip("elsewhere bytes are taken apart in other ways")
    steps, accumulators = 3, detect().registers - 4
    peak = Peak("int8", steps=steps)
    assert peak() > 1e6
    number = np.frombuffer(np.float32(1e-3).tobytes(), np.uint8).astype(np.int32)
    sums = np.arange(1, accumulators + 1, dtype=np.int32)
    for _ in range(steps):
        for index in range(accumulators):
            other = sums[(index + 1) % accumulators : (index + 1) % accumulators + 1]
            sums[index] += (other.view(np.int8) * number).sum(dtype=np.int32)
    assert (peak.result().view(np.int32) == sums.sum(dtype=np.int32)).all()


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("level", LEVELS)
def test_no_register_is_spilled(level: str, precision: str) -> None:
    try:
        target = detect(level)
    except UsageError as error:
        pytest.skip(str(error))
    kernel = peak_kernel(precision, target)
    text = llvm.assembly(kernel.emit("multiply_add", target), target)
    assert "Spill" not in text
    if precision == "int8":
        products = len(re.findall(r"vpdpbusd|pmaddwd", text))
        assert products == kernel.accumulators * registers_of_a_step(target)
