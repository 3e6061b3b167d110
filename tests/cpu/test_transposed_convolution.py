"""The transposed convolution kernel against the reference in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from lushan.cpu.task import Plane
from lushan.cpu.transposed_convolution import (
    pack_weights,
    transposed_convolution_kernel,
    transposed_convolution_tasks,
)
from lushan.reference.convolution import transposed_convolution
from support.compare import relative_error
from support.native_tasks import each_target, run_tasks
from support.planes import halos, normal, seeds


@st.composite
def problems(draw):
    """Return the shapes of x and weight, and options."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs = draw(st.integers(1, 9))
    outputs = draw(st.one_of(st.integers(1, 40), st.sampled_from([64, 100, 150, 256])))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2))
    stride = draw(st.tuples(*[st.integers(1, 3)] * 2))
    x = (draw(st.integers(1, 2)), *draw(st.tuples(*[st.integers(1, 6)] * 2)), inputs * groups)
    options = {
        "stride": stride,
        "padding": draw(st.tuples(*[st.integers(0, 3)] * 4)),
        "dilation": draw(st.tuples(*[st.integers(1, 3)] * 2)),
        "output_padding": tuple(draw(st.integers(0, s - 1)) for s in stride),
        "groups": groups,
    }
    spans = [
        (x[1 + a] - 1) * stride[a]
        - sum(options["padding"][2 * a : 2 * a + 2])
        + options["dilation"][a] * (kernel[a] - 1)
        + 1
        + options["output_padding"][a]
        for a in (0, 1)
    ]
    assume(min(spans) >= 1)
    return x, (inputs * groups, *kernel, outputs), options


def run(x, y, data, weight, bias, options, target):
    options = {name: value for name, value in options.items() if name != "output_padding"}
    kernel = transposed_convolution_kernel(weight.shape, **options)
    packed = tuple(np.full(shape, np.nan, np.float32) for shape in kernel.shapes(target))
    if bias is None:
        bias = np.zeros(kernel.groups * kernel.output_channels, np.float32)
    pack_weights(weight, bias, kernel, packed, target)
    tasks = transposed_convolution_tasks(x, y, kernel, packed)
    (actual,) = run_tasks(tasks, {x: data}, [y], target)
    return actual


@each_target
@given(problem=problems(), halo=st.tuples(halos, halos), with_bias=st.booleans(), seed=seeds)
def test_it_is_close(target, problem, halo, with_bias, seed):
    x_shape, weight_shape, options = problem
    data, weight = normal(seed, x_shape), normal(seed + 1, weight_shape)
    bias = normal(seed + 2, (weight_shape[3] * options["groups"],)) if with_bias else None
    wide = [None if a is None else a.astype(np.float64) for a in (data, weight, bias)]
    try:
        expected = transposed_convolution(*wide, **options)
    except ValueError:  # the padding leaves nothing
        assume(False)
    x, y = Plane("x", x_shape, halo[0]), Plane("y", expected.shape, halo[1])
    actual = run(x, y, data, weight, bias, options, target)
    assert relative_error(actual, expected) <= 2e-6


@each_target
def test_an_infinity_reaches_its_own_windows_only(target):
    data, weight = np.ones((1, 4, 4, 2), np.float32), np.ones((2, 2, 2, 20), np.float32)
    data[0, 1, 2, 0] = np.inf
    options = {"stride": (2, 2), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    x, y = Plane("x", data.shape, (1, 1, 1, 1)), Plane("y", (1, 8, 8, 20))
    expected = np.full((1, 8, 8, 20), 2, np.float32)
    expected[0, 2:4, 4:6] = np.inf
    np.testing.assert_array_equal(run(x, y, data, weight, None, options, target), expected)
