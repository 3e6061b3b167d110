"""Winograd's convolution against the reference, on every instruction set of this machine."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lushan.cpu.activation import Activation
from lushan.cpu.code import code_store
from lushan.cpu.packing import PanelWriter
from lushan.cpu.target import Target
from lushan.cpu.task import Plane
from lushan.cpu.tiling import L2_BYTES
from lushan.cpu.winograd import suitable_outputs, winograd_tasks
from lushan.cpu.winograd_packing import winograd_shape, write_winograd_weights
from lushan.cpu.winograd_parameter_packing import pack_winograd_weights
from lushan.cpu.winograd_tiling import (
    choose_training_outputs,
    choose_winograd_strips,
    winograd_products,
)
from lushan.cpu.winograd_transform import (
    FINITE,
    TAPS,
    matrices,
    points,
    transform_input,
    transform_output,
    transform_weight,
)
from lushan.graph.interpret import MEANINGS
from lushan.graph.weights import Factors
from lushan.reference.convolution import convolution
from support.native_tasks import each_target, run_tasks

Array = NDArray[np.float32]


class Exact:
    """The arithmetic of fractions."""

    add = staticmethod(operator.add)
    sub = staticmethod(operator.sub)

    @staticmethod
    def fma(factor: float, b: Any, c: Any) -> Any:
        return Fraction(factor) * b + c


def layer(
    x: Array,
    weight: Array,
    bias: Array,
    residual: Array | None,
    outputs: int,
    target: Target,
    *,
    halo: tuple[int, int, int, int] = (1, 1, 1, 1),
    activation: Activation = "none",
    slope: float = 0.0,
) -> Array:
    """Run one layer, its chunks in several orders: NaN is in all it must write before it reads."""
    n, height, width, _ = x.shape
    plane = Plane("x", x.shape, halo)
    y = Plane("y", (n, height, width, weight.shape[0]), halo[::-1])
    other = None if residual is None else Plane("residual", residual.shape, halo)
    packed = np.empty(winograd_shape(weight.shape, outputs, target), np.float32)
    writer = PanelWriter(target, code_store(target))
    write_winograd_weights(Factors(weight, None), outputs, packed, writer)
    tasks, temporaries = winograd_tasks(
        plane, y, other, packed, bias, outputs, target, activation=activation, slope=slope
    )
    inputs = {plane: x} if other is None else {plane: x, other: residual}
    (result,) = run_tasks(tasks, inputs, [y], target, between=temporaries, halo=0.0)
    return result


def meaning(
    x: Array, weight: Array, bias: Array, residual: Array | None, activation: str, slope: float
) -> NDArray[np.float64]:
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    y = convolution(*wide, padding=1)
    if residual is not None:
        y = y + residual
    if activation == "none":
        return y
    options = {"slope": slope} if activation == "leaky_relu" else {}
    return MEANINGS[activation](y, **options)


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def error(y: Array, exact: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2)))


each_scheme = pytest.mark.parametrize("outputs", FINITE)


@each_scheme
def test_matrices_compute_a_correlation_exactly(outputs: int) -> None:
    A, B, G = matrices(outputs)
    side = points(outputs)
    for output in range(outputs):
        for place in range(side):
            for tap in range(TAPS):
                product = sum(A[output][k] * B[k][place] * G[k][tap] for k in range(side))
                assert product == (place == output + tap)


@each_scheme
def test_straight_lines_are_the_matrices(outputs: int) -> None:
    A, B, _ = matrices(outputs)
    for place in range(points(outputs)):
        unit = [Fraction(int(place == k)) for k in range(points(outputs))]
        assert transform_input(unit, Exact()) == [row[place] for row in B]
        assert transform_output(unit, Exact()) == [row[place] for row in A]


@each_scheme
def test_factors_are_exact_in_float32(outputs: int) -> None:
    A, B, _ = matrices(outputs)
    for number in (number for matrix in (A, B) for row in matrix for number in row):
        assert Fraction(float(np.float32(float(number)))) == number


@each_scheme
def test_two_dimensions_are_exact(outputs: int) -> None:
    """On whole numbers: weights as fractions, B on pictures in float64 (its factors are halves)."""
    random = np.random.default_rng(1)
    A, B, G = (np.array(matrix) for matrix in matrices(outputs))
    d = random.integers(-8, 9, (points(outputs), points(outputs)))
    weight = random.integers(-8, 9, (TAPS, TAPS))
    transformed = B.astype(np.float64) @ d @ B.T.astype(np.float64)
    exact = np.vectorize(Fraction)(transformed)
    assert np.array_equal(exact, B @ d @ B.T)
    y = A @ ((G @ weight @ G.T) * exact) @ A.T
    expected = convolution(
        d[None, :, :, None].astype(np.float64), weight[None, :, :, None].astype(np.float64)
    )
    assert np.array_equal(y, expected[0, :, :, 0])


@each_scheme
def test_weights_are_transformed_in_float64(outputs: int) -> None:
    weight = numbers(0, TAPS, TAPS, 20)
    G = np.array(matrices(outputs)[2])
    for place, transformed in enumerate(np.moveaxis(transform_weight(weight, outputs), 2, 0)):
        exact = G @ np.vectorize(Fraction)(weight[:, :, place].astype(np.float64)) @ G.T
        np.testing.assert_allclose(transformed, exact.astype(np.float64), atol=1e-15)


@each_target
@settings(max_examples=15)
@given(data=st.data())
def test_equals_the_reference(target: Target, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    outputs = data.draw(st.sampled_from(list(FINITE)))
    n, height, width = draw(1, 3), draw(outputs, 19), draw(outputs, 19)
    ic, oc = target.lanes * draw(1, 4), target.lanes * draw(1, 8)
    halo = (draw(1, 3), draw(1, 3), draw(1, 3), draw(1, 3))
    activation: Activation = data.draw(st.sampled_from(get_args(Activation)))
    seed = draw(0, 2**32)
    x, weight = numbers(seed, n, height, width, ic), numbers(seed + 1, oc, 3, 3, ic)
    bias = numbers(seed + 2, oc)
    residual = numbers(seed + 3, n, height, width, oc) if data.draw(st.booleans()) else None
    y = layer(
        x, weight, bias, residual, outputs, target, halo=halo, activation=activation, slope=0.125
    )
    assert error(y, meaning(x, weight, bias, residual, activation, 0.125)) <= 1e-5


@each_target
@pytest.mark.parametrize(
    ("outputs", "size", "channels"),
    [
        (4, (56, 56), 64),
        (4, (28, 28), 128),
        (4, (14, 14), 256),
        (4, (37, 10), 64),
        (2, (7, 7), 512),
    ],
)
def test_resnet_layers_keep_the_error_small(
    target: Target, outputs: int, size: tuple[int, int], channels: int
) -> None:
    assert suitable_outputs(channels, channels, *size, target) == outputs
    x = np.maximum(numbers(0, 1, *size, channels), 0)
    weight, bias = numbers(1, channels, 3, 3, channels), numbers(2, channels)
    y = layer(x, weight, bias, None, outputs, target)
    assert error(y, meaning(x, weight, bias, None, "none", 0)) <= 1e-5


@each_target
@each_scheme
@pytest.mark.parametrize("channels", [32, 128])
def test_same_bits_in_every_batch(target: Target, channels: int, outputs: int) -> None:
    """Strips with 32 channels, chunks of panels with 128; sizes with overlapping tiles."""
    x = numbers(0, 3, 25, 31, channels)
    weight, bias = numbers(1, channels, 3, 3, channels), numbers(2, channels)
    residual = numbers(3, *x.shape)

    def run(pictures: slice, **options: Any) -> Array:
        return layer(x[pictures], weight, bias, residual[pictures], outputs, target, **options)

    together = run(slice(None))
    for position in range(3):
        assert np.array_equal(run(slice(position, position + 1))[0], together[position])
    assert np.array_equal(run(slice(None), halo=(2, 3, 1, 2)), together)


@each_target
def test_rule(target: Target) -> None:
    lanes = target.lanes
    for size, channels, expected in (
        (56, 64, 4),
        (28, 128, 4),
        (14, 256, 4),
        (64, 512, 2),
        (12, 512, 2),
        (10, 512, 2),
        (9, 512, 2),
        (10, 256, 4),
        (8, 512, 2),
        (7, 512, 2),
        (6, 512, 0),
        (8, 64, 4),
        (7, 64, 4),
        (5, 64, 2),
        (4, 64, 2),
        (3, 64, 0),
    ):
        assert suitable_outputs(channels, channels, size, size, target) == expected, size
    assert not suitable_outputs(lanes + 1, lanes, 56, 56, target)
    assert not suitable_outputs(lanes, lanes + 1, 56, 56, target)
    assert not suitable_outputs(lanes, lanes, 3, 400, target)


@each_target
def test_strips_fit_the_cache(target: Target) -> None:
    for outputs in FINITE:
        for tiles in (1, 16, 49, 64, 196, 3136):
            for channels in (16, 64, 128, 256, 512):
                strips = choose_winograd_strips(tiles, outputs, channels, channels, target)
                assert strips.tiles % strips.tile.pixels == 0
                kept = strips.tile.vectors * target.lanes + (0 if strips.shared else channels)
                smallest = strips.tiles == strips.tile.pixels
                products = winograd_products(outputs)
                assert 4 * products * strips.tiles * kept <= L2_BYTES or smallest


@each_target
def test_weights_beyond_the_cache_are_read_once(target: Target) -> None:
    """Several pictures of a deep layer: their input goes through each panel, not the reverse."""
    assert choose_winograd_strips(64, 2, 512, 512, target).shared
    assert choose_winograd_strips(64, 4, 256, 256, target).shared
    assert not choose_winograd_strips(784, 4, 64, 64, target).shared


@each_target
@each_scheme
@pytest.mark.parametrize("channels", [(32, 48), (128, 64)])
def test_weights_of_this_run(target: Target, outputs: int, channels: tuple[int, int]) -> None:
    """The same numbers, bit for bit, as with weights that were packed once."""
    ic, oc = channels
    x, weight, bias = numbers(0, 2, 13, 14, ic), numbers(1, oc, 3, 3, ic), numbers(2, oc)
    plane, y = Plane("x", x.shape, (1, 1, 1, 1)), Plane("y", (2, 13, 14, oc))
    packing, packed = pack_winograd_weights(weight, outputs, target, name="weights")
    tasks, temporaries = winograd_tasks(plane, y, None, packed, bias, outputs, target)
    between = [*temporaries, packed]
    (result,) = run_tasks([packing, *tasks], {plane: x}, [y], target, between=between, halo=0.0)
    assert np.array_equal(result, layer(x, weight, bias, None, outputs, target))


def test_rule_of_a_training_step() -> None:
    for images, size, channels, expected in (
        (128, 32, 16, 4),
        (128, 16, 32, 4),
        (128, 8, 64, 4),
        (128, 4, 512, 4),
        (128, 3, 512, 0),
        (8, 2, 512, 0),
        (16, 56, 64, 4),
        (16, 14, 256, 4),
        (16, 7, 512, 2),
        (1, 7, 512, 0),
        (8, 6, 64, 2),
        (1, 4, 16, 0),
    ):
        assert choose_training_outputs(images, size, size, channels, channels) == expected, size
