"""Memory layouts: the chapter's figures, addresses against NumPy's own, conversion both ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.image.layout import HWC, NCHW, NHWC, Layout, Shape, convert, parse_layout, shape_of

SHAPES = st.builds(Shape, *[st.integers(1, 4)] * 3, st.integers(1, 20))
LAYOUTS = st.sampled_from([NHWC, NCHW, *map(parse_layout, ("nChw1c", "nChw4c", "nChw16c"))])


def batch(shape: Shape) -> np.ndarray:
    """Return NHWC values that are all different and never zero."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)


def test_a_full_hd_picture_takes_6075_kib():
    size = HWC.size_in_bytes(Shape(1, 1080, 1920, 3))
    assert size == 6075 * 1024
    assert round(size / 2**20, 2) == 5.93


def test_one_picture_and_a_batch_of_two():
    assert HWC.array_shape(Shape(1, 224, 224, 3)) == (224, 224, 3)
    assert NHWC.array_shape(Shape(2, 224, 224, 3)) == (2, 224, 224, 3)
    assert NHWC.strides(Shape(2, 224, 224, 3)) == (224 * 224 * 3, 224 * 3, 3, 1)
    assert NCHW.strides(Shape(2, 224, 224, 3)) == (224 * 224 * 3, 224 * 224, 224, 1)


def test_addresses_of_the_formulas():
    shape = Shape(2, 5, 7, 20)
    assert NHWC.address(shape, 1, 2, 3, 4) == ((1 * 5 + 2) * 7 + 3) * 20 + 4
    assert NCHW.address(shape, 1, 2, 3, 4) == ((1 * 20 + 4) * 5 + 2) * 7 + 3
    blocked = parse_layout("nChw16c")
    assert blocked.address(shape, 1, 2, 3, 18) == (((1 * 2 + 1) * 5 + 2) * 7 + 3) * 16 + 2
    assert blocked.byte_address(shape, 1, 2, 3, 18, dtype=np.float32) == 4 * blocked.address(
        shape, 1, 2, 3, 18
    )


@given(SHAPES, LAYOUTS, st.data())
def test_an_address_is_where_numpy_keeps_the_value(shape: Shape, layout: Layout, data):
    place = [data.draw(st.integers(0, size - 1)) for size in shape]
    values = batch(shape)
    stored = convert(values, NHWC, layout)
    assert stored.ravel()[layout.address(shape, *place)] == values[tuple(place)]
    assert stored.strides == tuple(4 * stride for stride in layout.strides(shape))
    assert stored.nbytes == layout.size_in_bytes(shape, np.int32)


@given(SHAPES, LAYOUTS, LAYOUTS)
def test_conversion_there_and_back(shape: Shape, first: Layout, second: Layout):
    values = batch(shape)
    one = convert(values, NHWC, first)
    two = convert(one, first, second, channels=shape.c)
    assert shape_of(two, second, channels=shape.c) == shape
    assert np.array_equal(convert(two, second, NHWC, channels=shape.c), values)
    assert np.count_nonzero(two) == values.size  # the padding, and only the padding, is zero


def test_hwc_is_a_batch_of_one():
    picture = batch(Shape(1, 2, 3, 4))[0]
    planes = convert(picture, HWC, NCHW)
    assert planes.shape == (1, 4, 2, 3)
    assert np.array_equal(convert(planes, NCHW, HWC), picture)
    with pytest.raises(UsageError, match="HWC holds one picture, not 2"):
        convert(batch(Shape(2, 2, 2, 2)), NHWC, HWC)


@pytest.mark.parametrize("name", ["NWHC", "nChw0c", "nChwc", "nChw-4c", ""])
def test_unknown_layouts_are_named(name: str):
    with pytest.raises(UsageError, match="is not known; there are HWC, NHWC, NCHW"):
        parse_layout(name)


def test_wrong_arguments_are_told():
    with pytest.raises(UsageError, match="w=7 is outside 0 to 6"):
        NHWC.address(Shape(1, 5, 7, 3), 0, 0, 7, 0)
    with pytest.raises(UsageError, match=r"shape \[2, 3\] is not in layout NHWC"):
        convert(np.zeros((2, 3)), NHWC, NCHW)
    with pytest.raises(UsageError, match="40 channels do not make 2 blocks of 16"):
        shape_of(np.zeros((1, 2, 3, 3, 16)), parse_layout("nChw16c"), channels=40)
    with pytest.raises(UsageError, match="at least 1"):
        NHWC.size_in_bytes(Shape(0, 1, 1, 1))
