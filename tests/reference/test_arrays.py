"""Specifications of shapes, and sums that do not lose small addends."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.errors import UsageError
from lushan.reference.arrays import channel_sum, check_gradient, check_same_shape, check_shapes


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def test_letters_get_their_sizes():
    sizes = check_shapes(
        "test", x=(zeros(2, 5, 7, 3), "N H W C"), weight=(zeros(3), "C"), bias=(None, "C")
    )
    assert sizes == {"N": 2, "H": 5, "W": 7, "C": 3}
    assert check_shapes("test", x=(zeros(4, 5, 3), "... C")) == {"C": 3}
    assert check_shapes("test", x=(zeros(3), "... C")) == {"C": 3}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": (zeros(2, 3), "N H W C")},
            "test: x has the shape (2, 3); it must be [N, H, W, C]",
        ),
        (
            {"x": (np.float32(1), "... C")},
            "test: x must be a NumPy array of floats, got float32",
        ),
        ({"x": ([1.0], "C")}, "test: x must be a NumPy array of floats, got list"),
        ({"x": (zeros(2, dtype=np.uint8), "C")}, "got uint8"),
        ({"x": (zeros(2, 0), "N C")}, "test: x is empty: its shape is (2, 0)"),
        (
            {"x": (zeros(2, 3), "N C"), "weight": (zeros(4), "C")},
            "test: weight has the shape (4,), so C is 4, but x has the shape (2, 3), so C is 3",
        ),
        (
            {"x": (zeros(2, 3), "N C"), "weight": (zeros(3, dtype=np.float64), "C")},
            "test: weight is float64, but x is float32; convert one of them",
        ),
    ],
)
def test_messages_of_shapes(arrays, message):
    with pytest.raises(UsageError) as caught:
        check_shapes("test", **arrays)
    assert message in str(caught.value)


def test_messages_of_equal_shapes_and_gradients():
    with pytest.raises(UsageError, match=r"b has the shape \(3,\), but a has \(2,\)"):
        check_same_shape("test", a=zeros(2), b=zeros(3))
    with pytest.raises(UsageError, match="b is float64, but a is float32"):
        check_same_shape("test", a=zeros(2), b=zeros(2, dtype=np.float64))
    with pytest.raises(UsageError, match=r"grad_y has the shape \(2,\), .* \(2, 1\)"):
        check_gradient("test", zeros(2), (2, 1), np.dtype(np.float32))


def test_channel_sum_keeps_small_addends():
    array = np.ones((4, 50, 50, 2), np.float32)
    array[0, 0, 0] = 20_000_000
    in_order = np.add.reduce(array.reshape(-1, 2), axis=0)  # one row after the other, in float32
    assert (in_order == 20_000_000).all()
    total = channel_sum(array)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total, np.float32(20_009_999))
