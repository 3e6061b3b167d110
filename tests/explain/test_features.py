"""Feature maps, residual blocks and activations in numbers, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import NETWORKS, Inspect
from explain.definition import forward
from lushan.errors import UsageError
from lushan.explain import (
    activation_statistics,
    compare_precision,
    feature_maps,
    pooling_switches,
    residual_blocks,
    strongest_channels,
)
from lushan.explain.activations import _saturated
from lushan.explain.residuals import _block
from lushan.quantization.calibration import calibrate
from lushan.quantization.comparison import compare
from lushan.quantization.quantized_model import quantize_model


@pytest.mark.parametrize("by", ["peak", "mean"])
def test_the_strongest_channels_come_first(inspect: Inspect, by: str) -> None:
    inspection = inspect("bottleneck")
    maps = feature_maps(inspection, "layer1.0.relu3")
    flat = maps.reshape(-1, maps.shape[2])
    wanted = flat.max(axis=0) if by == "peak" else flat.mean(axis=0, dtype=np.float64)
    found = strongest_channels(inspection, "layer1.0.relu3", 5, by=by)
    assert [getattr(c, by) for c in found] == sorted(wanted, reverse=True)[:5]
    for channel in found:
        assert maps[channel.row, channel.column, channel.channel] == channel.peak
        assert channel.peak == flat[:, channel.channel].max()
    assert len(strongest_channels(inspection, "layer1.0.relu3", 1000)) == 16
    assert feature_maps(inspection, "avgpool").shape == (24,)


def test_strongest_channels_of_what_has_none(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    with pytest.raises(UsageError, match="fc has no feature maps"):
        strongest_channels(inspection, "fc")
    with pytest.raises(UsageError, match="count should be 1 or more; received 0"):
        strongest_channels(inspection, "relu", 0)
    with pytest.raises(UsageError, match="by should be one of peak, mean; received 'sum'"):
        strongest_channels(inspection, "relu", by="sum")


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_switches_point_at_the_winners(inspect: Inspect, engine: str) -> None:
    inspection = inspect("bottleneck", engine)
    model = inspection.model
    _, switches = forward(model.graph, model.weights, inspection.input[0])
    width = inspection.shape("relu")[1]
    won = switches["maxpool"]
    # Where a ReLU blocked a whole window, any of its zeros may be called the winner.
    alive = inspection.value("maxpool") > 0
    found = pooling_switches(inspection, "maxpool")
    assert np.array_equal(found[alive], (won[..., 0] * width + won[..., 1])[alive])
    with pytest.raises(UsageError, match="relu is relu: only max pooling has switches"):
        pooling_switches(inspection, "relu")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_residual_blocks_are_branch_and_shortcut(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    blocks = residual_blocks(inspection)
    if inspection.model.network.shortcut == "none":
        assert blocks == []
        return
    assert [block.node for block in blocks] == [n for n in inspection.nodes if n.endswith("add")]
    for block in blocks:
        branch, shortcut, total = (
            inspection.value(n).astype(np.float64).ravel()
            for n in (block.branch, block.shortcut, block.node)
        )
        assert block.branch.startswith(block.node.removesuffix(".add"))
        assert block.branch_norm == pytest.approx(np.sqrt(np.sum(branch**2)))
        assert block.shortcut_norm == pytest.approx(np.sqrt(np.sum(shortcut**2)))
        assert block.sum_norm == pytest.approx(np.sqrt(np.sum((branch + shortcut) ** 2)))
        cosine = np.sum(branch * shortcut) / block.branch_norm / block.shortcut_norm
        assert block.cosine == pytest.approx(cosine)
        assert block.shortcut_share == pytest.approx(np.sum(shortcut * total) / np.sum(total**2))
        assert block.branch_share + block.shortcut_share == 1


def test_a_block_that_is_0_has_numbers() -> None:
    zeros, ones = np.zeros((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)
    block = _block("sum", "a", "b", {"a": zeros, "b": ones, "sum": ones})
    assert (block.cosine, block.branch_share, block.shortcut_share) == (0, 0, 1)
    block = _block("sum", "a", "b", {"a": zeros, "b": zeros, "sum": zeros})
    assert (block.cosine, block.branch_share) == (0, 0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_activations_are_counted(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    statistics = activation_statistics(inspection)
    operators = {node.name: node for node in inspection.graph.nodes}
    assert [s.node for s in statistics] == [n for n in operators if "relu" in n]
    for found in statistics:
        node = operators[found.node]
        x, y = inspection.value(node.inputs[0]), inspection.value(found.node)
        assert found.operator == node.operator == inspection.model.network.activation
        assert (found.elements, found.channels) == (x.size, x.shape[2])
        assert found.blocked == int((x <= 0).sum())
        assert found.silent == tuple(c for c in range(x.shape[2]) if (x[..., c] <= 0).all())
        assert found.counts.sum() == x.size
        assert (found.edges[0], found.edges[-1]) == (x.min(), x.max())
        if found.operator == "relu":
            assert found.saturated == found.blocked == int((y == 0).sum())


def test_saturation_is_where_the_slope_is_a_hundredth_of_its_greatest() -> None:
    x = np.linspace(-8, 8, 2001, dtype=np.float32)
    slopes = {"sigmoid": 1 / (1 + np.exp(-x)), "tanh": np.tanh(x), "prelu": x}
    for operator, y in slopes.items():
        slope = np.gradient(y.astype(np.float64), x)
        expected = slope < 0.01 * slope.max() if operator != "prelu" else np.zeros(x.shape, bool)
        found = _saturated(operator, x <= 0, y)
        assert np.count_nonzero(found != expected) <= 8  # near the border


def test_float32_against_int8_is_the_comparison_of_quantization(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    model = inspection.model
    random = np.random.default_rng(9)
    pictures = [random.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(4)]
    quantized = quantize_model(model, calibrate(model, pictures), "mse")
    found = compare_precision(inspection, quantized)
    assert found == compare(model, quantized, [inspection.pixels])
    assert found.pictures == 1
    assert found.scores.name == "fc"
    with pytest.raises(UsageError, match="computes on float32, not on int8"):
        compare_precision(inspection, model)
    with pytest.raises(UsageError, match="their networks differ"):
        compare_precision(inspect("basic"), quantized)
