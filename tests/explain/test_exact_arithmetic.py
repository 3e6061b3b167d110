"""The arithmetic of one activation re-adds to the number that is displayed."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import NETWORKS, Inspect, exact_values
from lushan.errors import UsageError
from lushan.explain import arithmetic


def places(inspection, node: str, random) -> list[tuple[int, tuple[int, int] | None]]:
    """A few numbers of a node: the corners, where padding is, and somewhere."""
    shape = inspection.shape(node)
    if len(shape) == 1:
        return [(0, None), (shape[0] - 1, None)]
    height, width, channels = shape
    inner = (int(random.integers(height)), int(random.integers(width)))
    corners = [(0, 0), (height - 1, width - 1), inner]
    return [(int(random.integers(channels)), place) for place in corners]


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_node_re_adds_to_six_digits(inspect: Inspect, name: str, engine: str) -> None:
    inspection = inspect(name, engine)
    exact = exact_values(inspection)
    random = np.random.default_rng(7)
    for node in inspection.nodes:
        for channel, place in places(inspection, node, random):
            found = arithmetic(inspection, node, channel, place)
            chosen = (0, *(place or ()), channel)
            assert found.displayed == inspection.value(node)[chosen[1:]]
            assert abs(found.deviation) <= 1e-6 * found.magnitude, (node, place)
            assert abs(found.running_sum - found.value) <= 1e-6 * found.magnitude
            # Its inputs are the engine's; the network in float64 is near.
            scale = np.abs(exact[node]).max()
            assert abs(found.value - exact[node][chosen]) <= 2e-5 * scale, (node, place)


def test_a_window_is_cut_where_it_lies(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    x = inspection.value("input")
    found = arithmetic(inspection, "relu", 3, (0, 4))
    assert (found.source, found.top, found.left) == ("input", -2, 6)
    assert found.inside.tolist() == [[False] * 5] * 2 + [[True] * 5] * 3
    assert np.array_equal(found.window[2:], x[:3, 6:11])
    assert not found.window[:2].any()
    gamma, variance = (
        inspection.model.weights[f"bn1.{part}"][3] for part in ("weight", "running_var")
    )
    kernel = inspection.model.weights["conv1.weight"][3] * gamma / np.sqrt(variance + 1e-5)
    assert np.allclose(found.kernel, kernel, rtol=1e-5)
    assert np.array_equal(
        found.products, found.window.astype(np.float64) * found.kernel.astype(np.float64)
    )
    assert found.value == max(0.0, found.before_activation)


def test_a_block_ends_with_its_shortcut(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    found = arithmetic(inspection, "layer1.1.relu3", 5, (4, 4))
    assert (found.source, found.operator, found.activation) == ("layer1.1.relu2", "relu", "relu")
    assert found.shortcut_node == "layer1.0.relu3"
    assert found.shortcut == inspection.value("layer1.0.relu3")[4, 4, 5]
    raw = arithmetic(inspection, "layer1.1.conv3", 5, (4, 4))
    assert np.array_equal(
        raw.kernel[0, 0], inspection.model.weights["layer1.1.conv3.weight"][5, 0, 0]
    )
    assert (raw.bias, raw.shortcut_node, raw.activation) == (0.0, None, "none")


def test_max_pooling_points_at_the_winner(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    found = arithmetic(inspection, "maxpool", 2, (0, 3))
    assert sorted(np.unique(found.kernel)) == [0, 1]
    assert found.kernel.sum() == 1
    assert found.value == found.displayed == found.window[found.inside].max()


def test_long_sums_lose_digits() -> None:
    """20000000 + 1 = 20000000 in float32 (chapter 14): the deviation shows it."""
    from lushan.explain.exact_arithmetic import Arithmetic

    window = np.array([[[2e7, 1.0, 1.0]]], np.float32)
    found = Arithmetic(
        node="n", operator="convolution", row=0, column=0, channel=0, source="x", top=0, left=0,
        window=window, kernel=np.ones_like(window), inside=np.ones((1, 1), bool), bias=0.0,
        shortcut_node=None, shortcut=None, activation="none", slope=0.0, displayed=2e7,
    )  # fmt: skip
    assert found.running_sum == 20000000
    assert found.value == found.sum_of_products == 20000002
    assert found.deviation == -2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("input", 0, (0, 0)), "the picture itself is not computed"),
        (("relu", 0), "give a row and a column"),
        (("fc", 0, (0, 0)), "none for one without"),
        (("relu", 8, (0, 0)), "channel 8: relu has the channels 0 to 7"),
        (("relu", 0, (19, 0)), "row 19, column 0"),
        (("relu9", 0, (0, 0)), "no layer 'relu9'; the nearest are: relu"),
    ],
)
def test_what_there_is_not_is_named(inspect: Inspect, arguments, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arithmetic(inspect("bottleneck"), *arguments)
