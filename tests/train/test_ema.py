"""The moving average of weights, against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.train.ema import MovingAverage


@pytest.mark.parametrize("every", [1, 4])
def test_it_is_the_formula(every: int) -> None:
    random = np.random.default_rng(0)
    parameters = {"w": random.standard_normal(5, np.float32), "v": np.ones(2, np.float32)}
    average = MovingAverage(parameters, ["w"], 0.9, every)
    assert average.arrays.keys() == {"w"}
    expected = parameters["w"].astype(np.float64)
    for step in range(40):
        parameters["w"] += random.standard_normal(5, np.float32)
        average.update(parameters, step)
        if (step + 1) % every == 0:
            decay = min(0.9, (1 + step) / (10 + step)) ** every
            expected = decay * expected + (1 - decay) * parameters["w"]
        np.testing.assert_allclose(average.arrays["w"], expected, rtol=1e-5, atol=1e-6)
    assert not np.shares_memory(average.arrays["w"], parameters["w"])


def test_it_continues_bit_for_bit() -> None:
    random = np.random.default_rng(1)
    parameters = {"w": random.standard_normal(5, np.float32)}
    first = MovingAverage(parameters, ["w"], 0.99)
    for step in range(3):
        parameters["w"] += 1
        first.update(parameters, step)
    second = MovingAverage(parameters, ["w"], 0.99)
    second.restore({name: array.copy() for name, array in first.arrays.items()})
    for average in (first, second):
        average.update({"w": parameters["w"] + 2}, 3)
    assert first.arrays["w"].tobytes() == second.arrays["w"].tobytes()
