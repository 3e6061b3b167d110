"""Convolution against ONNX Runtime, against numerical gradients, and by its own properties."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lushan.errors import UsageError
from lushan.reference import im2col
from lushan.reference.convolution import (
    convolution,
    convolution_backward,
    transposed_convolution,
    transposed_convolution_backward,
)


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def nchw(array):
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def nhwc(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


@pytest.fixture(params=["one block", "a row at a time", "several pictures at a time"])
def blocks(request, monkeypatch):
    """Run with every way to cut the work into blocks."""
    sizes = {"one block": 1 << 30, "a row at a time": 1, "several pictures at a time": 20_000}
    monkeypatch.setattr(im2col, "COLUMN_BYTES", sizes[request.param])


def windows(largest_size, largest_kernel, largest_padding):
    """Random geometry; sizes that do not fit are for the test to turn away."""
    return st.fixed_dictionaries(
        {
            "size": st.tuples(*[st.integers(1, largest_size)] * 2),
            "channels": st.tuples(*[st.integers(1, 4)] * 2),  # of one group
            "kernel": st.tuples(*[st.integers(1, largest_kernel)] * 2),
            "stride": st.tuples(*[st.integers(1, 3)] * 2),
            "padding": st.tuples(*[st.integers(0, largest_padding)] * 4),
            "dilation": st.tuples(*[st.integers(1, 3)] * 2),
            "groups": st.integers(1, 3),
            "column_bytes": st.sampled_from([1, 3_000, 1 << 20]),
        }
    )


def options_of(case):
    return {name: case[name] for name in ("stride", "padding", "dilation", "groups")}


def onnx_options(case):
    top, bottom, left, right = case["padding"]
    return {
        "kernel_shape": case["kernel"],
        "strides": case["stride"],
        "pads": [top, left, bottom, right],
        "dilations": case["dilation"],
        "group": case["groups"],
    }


def kernel_and_padding(case):
    """Yield for each axis: size, effective kernel, padding on both sides together."""
    for axis in (0, 1):
        kernel = (case["kernel"][axis] - 1) * case["dilation"][axis] + 1
        yield case["size"][axis], kernel, sum(case["padding"][2 * axis : 2 * axis + 2])


@given(seed=st.integers(0, 2**32 - 1), case=windows(13, 5, 2))
def test_convolution_equals_onnx(onnx_run, assert_close, seed, case):
    assume(all(size + padding >= kernel for size, kernel, padding in kernel_and_padding(case)))
    rng = np.random.default_rng(seed)
    (group_inputs, group_outputs), groups = case["channels"], case["groups"]
    x = normal(rng, 1 + seed % 3, *case["size"], group_inputs * groups)
    weight = normal(rng, group_outputs * groups, *case["kernel"], group_inputs)
    bias = normal(rng, group_outputs * groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(im2col, "COLUMN_BYTES", case["column_bytes"])
        ours = convolution(x, weight, bias, **options_of(case))
    (theirs,) = onnx_run("Conv", nchw(x), nchw(weight), bias, **onnx_options(case))
    assert_close(ours, nhwc(theirs))


@given(seed=st.integers(0, 2**32 - 1), case=windows(7, 4, 1))
def test_transposed_convolution_equals_onnx(onnx_run, assert_close, seed, case):
    stride = case["stride"]
    output_padding = (seed % stride[0], seed % stride[1])
    for axis, (size, kernel, padding) in enumerate(kernel_and_padding(case)):
        assume((size - 1) * stride[axis] + kernel + output_padding[axis] > padding)
    rng = np.random.default_rng(seed)
    (group_inputs, group_outputs), groups = case["channels"], case["groups"]
    x = normal(rng, 1 + seed % 3, *case["size"], group_inputs * groups)
    weight = normal(rng, group_inputs * groups, *case["kernel"], group_outputs)
    bias = normal(rng, group_outputs * groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(im2col, "COLUMN_BYTES", case["column_bytes"])
        ours = transposed_convolution(
            x, weight, bias, output_padding=output_padding, **options_of(case)
        )
    attributes = onnx_options(case) | {"output_padding": output_padding}
    (theirs,) = onnx_run("ConvTranspose", nchw(x), nchw(weight), bias, **attributes)
    assert_close(ours, nhwc(theirs))


CASES = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 3), "padding": (2, 0, 1, 2), "dilation": (1, 2)},
    {"padding": (1, 2), "dilation": 2, "groups": 2},
]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("options", CASES)
def test_convolution_backward_equals_numerical_gradient(options, numerical_gradient):
    rng = np.random.default_rng(1)
    x = normal(rng, 2, 7, 6, 4, dtype=np.float64)
    weight = normal(rng, 6, 3, 2, 4 // options.get("groups", 1), dtype=np.float64)
    bias = normal(rng, 6, dtype=np.float64)

    def forward():
        return convolution(x, weight, bias, **options)

    grad_y = rng.standard_normal(forward().shape)
    gradients = convolution_backward(grad_y, x, weight, **options)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        np.testing.assert_allclose(
            gradient, numerical_gradient(forward, array, grad_y), rtol=1e-6, atol=1e-7
        )


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("options", [*CASES, {"stride": (3, 2), "output_padding": (2, 1)}])
def test_transposed_convolution_backward_equals_numerical_gradient(options, numerical_gradient):
    rng = np.random.default_rng(2)
    x = normal(rng, 2, 4, 3, 4, dtype=np.float64)
    groups = options.get("groups", 1)
    weight = normal(rng, 4, 3, 2, 6 // groups, dtype=np.float64)
    bias = normal(rng, 6, dtype=np.float64)

    def forward():
        return transposed_convolution(x, weight, bias, **options)

    grad_y = rng.standard_normal(forward().shape)
    gradients = transposed_convolution_backward(grad_y, x, weight, **options)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        np.testing.assert_allclose(
            gradient, numerical_gradient(forward, array, grad_y), rtol=1e-6, atol=1e-7
        )


def test_the_definition_on_a_small_picture():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    weight = np.zeros((1, 3, 3, 1))
    weight[0, 0, 0, 0], weight[0, 2, 1, 0] = 1, 10  # the pixel at the corner, the one below
    y = convolution(x, weight)
    assert y.shape == (1, 2, 2, 1)  # 4×4 input, 3×3 kernel → 2×2
    np.testing.assert_array_equal(
        y[0, :, :, 0], [[0 + 10 * 9, 1 + 10 * 10], [4 + 10 * 13, 5 + 10 * 14]]
    )


def test_two_3x3_convolutions_are_one_5x5():
    rng = np.random.default_rng(3)
    x = normal(rng, 1, 9, 9, 2, dtype=np.float64)
    first = normal(rng, 3, 3, 3, 2, dtype=np.float64)
    second = normal(rng, 4, 3, 3, 3, dtype=np.float64)
    # Shifting a kernel over a kernel gives the kernel that does both: [4, 5, 5, 2].
    both = np.zeros((4, 5, 5, 2))
    for h in range(3):
        for w in range(3):
            both[:, h : h + 3, w : w + 3] += np.einsum("om,mhwi->ohwi", second[:, h, w], first)
    np.testing.assert_allclose(
        convolution(convolution(x, first), second), convolution(x, both), rtol=1e-12, atol=1e-12
    )


def test_transposed_convolution_is_the_transpose():
    # <convolution(x), y> = <x, transposed_convolution(y)> for all x and y.
    rng = np.random.default_rng(4)
    options = {"stride": (2, 3), "padding": (1, 0, 2, 1), "dilation": (2, 1), "groups": 2}
    x = normal(rng, 2, 10, 11, 4, dtype=np.float64)
    weight = normal(rng, 6, 3, 2, 2, dtype=np.float64)
    forward = convolution(x, weight, **options)
    y = normal(rng, *forward.shape, dtype=np.float64)
    back = transposed_convolution(y, weight, output_padding=(0, 0), **options)
    padded = np.zeros_like(x)
    padded[:, : back.shape[1], : back.shape[2]] = back  # the last rows may not be seen
    assert np.sum(forward * y) == pytest.approx(np.sum(x * padded), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_type_is_kept_and_inputs_are_untouched(dtype):
    rng = np.random.default_rng(5)
    x, weight = normal(rng, 1, 5, 5, 2, dtype=dtype), normal(rng, 3, 3, 3, 2, dtype=dtype)
    before = x.copy(), weight.copy()
    y = convolution(x, weight, np.ones(3, dtype), padding=1)
    assert y.dtype == transposed_convolution(y, weight, padding=1).dtype == dtype
    assert all(g.dtype == dtype for g in convolution_backward(y, x, weight, padding=1))
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(weight, before[1])


def test_views_that_are_not_contiguous_are_fine():
    rng = np.random.default_rng(6)
    x = normal(rng, 2, 3, 8, 7).transpose(0, 2, 3, 1)  # NCHW in memory
    for kernel in (1, 3):
        weight = normal(rng, 3, kernel, kernel, 4).transpose(3, 1, 2, 0)
        np.testing.assert_array_equal(
            convolution(x, weight), convolution(x.copy(), np.ascontiguousarray(weight))
        )


def test_temporary_memory_is_bounded():
    rng = np.random.default_rng(7)
    x, weight = normal(rng, 4, 112, 112, 32), normal(rng, 32, 3, 3, 32)
    all_windows = x.nbytes * 9  # 58 MB
    tracemalloc.start()
    y = convolution(x, weight, padding=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - y.nbytes < all_windows / 10


def test_long_float32_sums_keep_small_addends():
    """Chapter 14: 20000000 + 1 is 20000000 in float32, however often 1 is added."""
    addends = np.ones(4608, np.float32)  # ResNet's longest neighbourhood: 3×3×512
    addends[0] = 20_000_000
    assert np.float32(20_000_000) + np.float32(1) == np.float32(20_000_000)
    running = np.cumsum(addends)[-1]  # NumPy's cumsum adds one after the other
    assert running == 20_000_000
    exact = 20_000_000 + 4607
    x = addends.reshape(1, 3, 3, 512)
    product = convolution(x, np.ones((16, 3, 3, 512), np.float32))
    assert np.abs(product - exact).max() < (exact - running) / 2


def arrays(x=(1, 5, 5, 4), weight=(6, 3, 3, 4), bias=None, dtype=np.float32):
    return (
        np.zeros(x, np.float32),
        np.zeros(weight, dtype),
        None if bias is None else np.zeros(bias, np.float32),
    )


@pytest.mark.parametrize(
    ("given_arrays", "options", "parts"),
    [
        (arrays(x=(5, 5, 4)), {}, ["x has the shape (5, 5, 4)", "[N, H, W, IC]"]),
        (arrays(weight=(6, 3, 4)), {}, ["(6, 3, 4)", "[OC, KH, KW, IC/G]"]),
        (arrays(x=(0, 5, 5, 4)), {}, ["x is empty", "(0, 5, 5, 4)"]),
        (arrays(weight=(6, 3, 3, 5)), {}, ["(6, 3, 3, 5)", "(1, 5, 5, 4)", "groups 1"]),
        (arrays(weight=(6, 3, 3, 1)), {"groups": 4}, ["(6, 3, 3, 1)", "groups 4"]),
        (arrays(), {"groups": 0}, ["groups 0"]),
        (arrays(bias=(5,)), {}, ["bias has the shape (5,)", "OC is 5", "OC is 6"]),
        (arrays(dtype=np.float64), {}, ["weight is float64", "x is float32"]),
        (arrays(dtype=np.int32), {}, ["weight must be", "floats", "int32"]),
        (arrays(weight=(6, 7, 7, 4)), {}, ["7×7", "5×5"]),
        (arrays(), {"dilation": 3}, ["7×7", "5×5"]),
        (arrays(), {"stride": 0}, ["stride", "at least 1", "0"]),
        (arrays(), {"stride": (1, 2, 3)}, ["stride", "(1, 2, 3)"]),
        (arrays(), {"padding": (1, -1)}, ["padding", "(1, -1)"]),
        (arrays(), {"padding": "same"}, ["padding", "same"]),
        (arrays(), {"dilation": 1.5}, ["dilation", "1.5"]),
    ],
)
def test_messages_carry_what_was_received(given_arrays, options, parts):
    with pytest.raises(UsageError) as caught:
        convolution(*given_arrays, **options)
    for part in parts:
        assert part in str(caught.value)


def test_messages_of_transposed_convolution_and_of_gradients():
    x, weight, _ = arrays(x=(1, 5, 5, 6))
    with pytest.raises(UsageError, match=r"output_padding 2 must be below the stride \(2, 2\)"):
        transposed_convolution(x, weight, stride=2, output_padding=2)
    with pytest.raises(UsageError, match=r"\(6, 3, 3, 4\) .*groups 4 .*\(1, 5, 5, 6\)"):
        transposed_convolution(x, weight, groups=4)
    with pytest.raises(UsageError, match=r"bias \(7,\)"):
        transposed_convolution(x, weight, np.zeros(7, np.float32))
    with pytest.raises(UsageError, match=r"grad_y has the shape \(1, 5, 5, 6\).*\(1, 3, 3, 6\)"):
        convolution_backward(x, np.zeros((1, 5, 5, 4), np.float32), weight)
