"""bfloat16, which checkpoints may hold and NumPy does not know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def widen_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the numbers of the given 16-bit patterns, which are the upper halves of float32."""
    upper: NDArray[np.uint32] = bits.astype(np.uint32) << np.uint32(16)
    return upper.view(np.float32)
