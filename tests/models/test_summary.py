"""Counts of a network, worked out by hand on small ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lushan.graph.builder import GraphBuilder
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from support.quantized import quantized
from support.random_graphs import random_weights

SMALL = ResNet("basic", (1, 1), (4, 8), stem_channels=4, classes=3)


def test_layers_are_counted_one_by_one() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input("x", (None, None, None, 3)), "conv", 4, kernel=3)
    x = builder.prelu(builder.batch_norm(x, "bn"), "prelu")
    x = builder.node("global_average_pooling", (x,), "pool")
    counts = summarize(builder.build(builder.linear(x, "fc", 2)), 5, 6)
    assert [
        (layer.name, layer.output_shape, layer.parameters, layer.multiply_accumulates)
        for layer in counts.layers
    ] == [
        ("conv", (5, 6, 4), 4 * 27, 30 * 4 * 27),
        ("bn", (5, 6, 4), 8, 0),  # the running statistics are not learned
        ("prelu", (5, 6, 4), 4, 0),
        ("pool", (4,), 0, 0),
        ("fc", (2,), 10, 8),
    ]
    assert counts.parameters == 4 * 27 + 8 + 4 + 10
    assert counts.weight_bytes == 4 * (4 * 27 + 16 + 4 + 10)
    assert (counts.weighted_layers, counts.projections) == (2, 0)


def test_the_peak_is_where_most_values_are_needed_at_once() -> None:
    """A wide value in the middle of a branch, while what goes around it waits."""
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 3))
    y = builder.convolution(x, "narrow", 2, kernel=1)
    z = builder.convolution(y, "wide", 10, kernel=1)
    z = builder.convolution(z, "back", 2, kernel=1)
    graph = builder.build(builder.node("add", (z, y), "sum"))
    # The largest step, "back", needs y (2), its input (10) and its output (2).
    assert summarize(graph, 4, 4).peak_activation_bytes == 4 * 16 * (2 + 10 + 2)


def test_an_output_and_an_unread_value_count_to_their_ends() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 3))
    window = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0)}
    y = builder.node("max_pooling", (x,), "y", more_outputs=("switches",), **window)
    z = builder.node("relu", (y,), "z")
    # x, y and the switches (int64) at once; afterwards y as an output stays beside z.
    assert summarize(builder.build(z), 2, 2).peak_activation_bytes == (4 + 4 + 8) * 12
    last = builder.node("relu", (z,), "last")
    assert summarize(builder.build(last, y, z), 2, 2).peak_activation_bytes == (4 + 4 + 8) * 12


@pytest.mark.parametrize("batch_norm", [True, False])
def test_projections_are_told_by_where_they_stand(batch_norm: bool) -> None:
    network = replace(SMALL, batch_norm=batch_norm)
    counts = summarize(build(network), 32, 32)
    assert (counts.weighted_layers, counts.projections) == (6, 1)
    plain = summarize(build(replace(network, shortcut="none")), 32, 32)
    assert (plain.weighted_layers, plain.projections) == (6, 0)


def test_a_layer_before_a_block_is_no_projection() -> None:
    """Without an activation between, the shortcut of a block is the convolution before it."""
    builder = GraphBuilder()
    stem = builder.convolution(builder.input("x", (None, None, None, 3)), "stem", 4, kernel=3)
    branch = builder.convolution(stem, "branch", 4, kernel=3)
    counts = summarize(builder.build(builder.node("add", (branch, stem), "sum")), 8, 8)
    assert (counts.weighted_layers, counts.projections) == (2, 0)


def test_a_quantised_network_has_the_same_counts_and_a_quarter_of_the_memory() -> None:
    graph = build(SMALL)
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    rewritten, _ = quantized(graph, random_weights(graph, 0), x)
    plain, counts = summarize(graph, 32, 32), summarize(rewritten, 32, 32)
    assert counts.multiply_accumulates == plain.multiply_accumulates
    # A bias for each channel is what batch norm leaves: half of its learned parameters.
    batch_norms = sum(c.parameters for c in plain.layers if c.operator == "batch_norm")
    assert counts.parameters == plain.parameters - batch_norms // 2
    assert plain.peak_activation_bytes == 4 * 32 * 32 * (3 + 1)  # the input and the stem: 16×16×4
    assert (
        counts.peak_activation_bytes == (4 + 1) * 32 * 32 * 3
    )  # the input as float32 and as bytes
    assert counts.weight_bytes < 0.7 * plain.weight_bytes  # of few weights, many parameters
