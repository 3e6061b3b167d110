"""How far two results are apart."""

from __future__ import annotations

import numpy as np


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return max |difference| / max |expected|: what the project calls the error of scores."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    scale = float(np.abs(expected).max())
    difference = float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max())
    return difference / scale if scale else difference


def relative_rms(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the root mean square of the difference over that of ``expected``."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    difference = actual.astype(np.float64) - expected.astype(np.float64)
    scale = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    rms = float(np.sqrt(np.mean(np.square(difference))))
    return rms / scale if scale else rms
