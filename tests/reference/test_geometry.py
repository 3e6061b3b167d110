"""Windows: numbers are completed and checked; taps join exactly the pixels that meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference.geometry import Window, edges, pair, window


def test_numbers_are_completed():
    assert window(3) == Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1))
    assert window([3, 5], stride=[2, 1], padding=(1, 2), dilation=2) == Window(
        (3, 5), (2, 1), (1, 1, 2, 2), (2, 2)
    )
    assert edges((1, 2, 3, 4)) == (1, 2, 3, 4)
    assert pair("stride", np.int64(2)) == (2, 2)
    assert pair("output_padding", 0, smallest=0) == (0, 0)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: window(0), "kernel must be an integer or (height, width), at least 1, got 0"),
        (lambda: window((3,)), "got (3,)"),
        (lambda: window(3, stride=None), "stride must be an integer"),
        (lambda: window(3, stride=[]), "got []"),
        (lambda: window(3, padding=(1, 2, 3)), "padding must be"),
        (lambda: window(3, padding=(0, 0, 0, -1)), "none negative, got (0, 0, 0, -1)"),
        (lambda: window(3, dilation=(1, 2.0)), "dilation must be"),
        (lambda: window(3).output_size(2, 9), "3×3 pixels does not fit an input of 2×9 pixels"),
        (lambda: window(3, dilation=4, padding=1).output_size(6, 9), "9×9 pixels"),
        (lambda: window(1, padding=1).output_size(0, 9), "0×9"),
    ],
)
def test_impossible_numbers_are_refused(call, part):
    with pytest.raises(UsageError) as caught:
        call()
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("size", "slide", "expected"),
    [
        ((4, 4), window(3), (2, 2)),
        ((224, 224), window(7, stride=2, padding=3), (112, 112)),  # ResNet's stem
        ((112, 112), window(3, stride=2, padding=1), (56, 56)),  # its max pooling
        ((65, 97), window(7, stride=2, padding=3), (33, 49)),
        ((10, 11), window(2, stride=2), (5, 5)),
    ],
)
def test_output_size(size, slide, expected):
    assert slide.output_size(*size) == expected


@given(
    size=st.tuples(*[st.integers(1, 9)] * 2),
    kernel=st.tuples(*[st.integers(1, 4)] * 2),
    stride=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 6)] * 4),
    dilation=st.tuples(*[st.integers(1, 3)] * 2),
    rows=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_taps_join_exactly_the_pixels_that_meet(*, size, kernel, stride, padding, dilation, rows):
    slide = window(kernel, stride=stride, padding=padding, dilation=dilation)
    (H, W), (top, _, left, _) = size, padding
    assume(
        H + sum(padding[:2]) >= slide.effective_kernel[0]
        and W + sum(padding[2:]) >= slide.effective_kernel[1]
    )
    HO, WO = slide.output_size(H, W)
    rows = range(min(rows[0], HO - 1), max(min(rows[0] + rows[1], HO), min(rows[0], HO - 1) + 1))
    pixels = np.arange(H * W).reshape(1, H, W)
    outputs = np.arange(HO * WO).reshape(1, HO, WO)[:, rows.start : rows.stop]
    joined = []
    for tap in slide.taps(H, W, rows, WO):
        pairs = zip(outputs[tap.output].flat, pixels[tap.input].flat, strict=True)
        joined += [(tap.kh, tap.kw, int(o), int(i)) for o, i in pairs]
    expected = []
    for kh in range(kernel[0]):
        for kw in range(kernel[1]):
            for ho in rows:
                for wo in range(WO):
                    h = ho * stride[0] - top + kh * dilation[0]
                    w = wo * stride[1] - left + kw * dilation[1]
                    if 0 <= h < H and 0 <= w < W:
                        expected.append((kh, kw, ho * WO + wo, h * W + w))
    assert joined == expected
