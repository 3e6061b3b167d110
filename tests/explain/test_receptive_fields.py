"""Receptive fields against a probe: what a NaN in the picture reaches has seen that pixel."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import Inspect
from lushan.errors import GraphError
from lushan.explain import receptive_field
from lushan.graph import interpret
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build


@pytest.mark.parametrize("name", ["bottleneck", "basic", "plain"])
def test_fields_are_what_a_nan_reaches(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    model, nodes = inspection.model, inspection.nodes
    weights = {key: np.asarray(model.weights[key]) for key in model.weights}
    program = interpret.compile(model.graph, weights, keep=nodes)
    height, width = inspection.size
    # A NaN in every picture of a batch, along a row and along a column of pixels: both axes.
    batch = np.repeat(inspection.input, height + width, axis=0)
    for at in range(height):
        batch[at, at, width // 2] = np.nan
    for at in range(width):
        batch[height + at, height // 2, at] = np.nan
    with np.errstate(invalid="ignore"):
        values = program({"input": batch})
    for node in nodes:
        field = receptive_field(model.graph, node)
        value = values[node]
        if value.ndim == 2:
            assert np.isnan(value).all()
            assert field.height is field.width is field.stride is None
            assert field.box(0, 0, inspection.size) == (0, 0, height, width)
            continue
        reached = np.isnan(value).any(axis=3)  # [pixel, row, column]
        for row, column in np.ndindex(reached.shape[1:]):
            top, left, bottom, right = field.box(row, column, inspection.size)
            for seen, first, last, crossed in (
                (reached[:height, row, column], top, bottom, left <= width // 2 < right),
                (reached[height:, row, column], left, right, top <= height // 2 < bottom),
            ):
                places = np.flatnonzero(seen)
                if crossed and places.size:  # a strided 1×1 leaves gaps, never at an end
                    assert (places[0], places[-1] + 1) == (first, last), (node, row, column)
                assert places.size == 0 or crossed


def test_fields_of_resnet50_are_those_of_the_literature() -> None:
    graph = build(ARCHITECTURES["resnet50"])
    fields = {name: receptive_field(graph, name) for name in ("conv1", "maxpool", "layer4.2.relu3")}
    assert [(field.height, field.stride) for field in fields.values()] == [
        (7, (2, 2)),
        (11, (4, 4)),
        (427, (32, 32)),  # V1.5: the stride on the 3×3
    ]
    assert fields["conv1"].box(0, 5, (224, 224)) == (0, 7, 4, 14)
    assert receptive_field(graph, "fc").height is None


def test_no_such_node() -> None:
    with pytest.raises(GraphError, match="no node that defines 'conv9'"):
        receptive_field(build(ARCHITECTURES["resnet18"]), "conv9")
