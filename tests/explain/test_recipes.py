"""Recipes add up to the engine's numbers, cell by cell; patterns and gradients of many layers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explain.conftest import Inspect, exact_values
from lushan.errors import UsageError
from lushan.explain import arithmetic, deconvnet, deconvnet_layers, gradient_norms, recipe
from lushan.explain.exact_arithmetic import _activate
from lushan.explain.projections import passes_through
from lushan.reference.softmax import softmax

ENDS = {
    "bottleneck": ["relu", "layer1.1.relu3", "layer2.0.relu3"],
    "basic": ["relu", "layer1.0.relu2", "layer3.0.relu2"],
    "plain": ["relu", "layer1.0.relu1", "layer2.0.relu2"],
    "leaky": ["relu", "layer2.0.relu3"],
    "prelu": ["relu", "layer1.0.relu3"],
    "sigmoid": ["relu", "layer2.0.relu2"],
    "tanh": ["relu", "layer3.0.relu2"],
}


def readd(inspection, found, k: int, row: int, column: int) -> float:
    """Add one number up from a recipe alone, in float64, with windows cut by hand."""
    x = inspection.value(found.source).astype(np.float64)
    slide, kernel = found.slide, found.kernels[k].astype(np.float64)
    terms = [float(found.biases[k])]
    for i, j in np.ndindex(kernel.shape[:2]):
        y = row * slide.stride[0] - slide.padding[0] + i * slide.dilation[0]
        z = column * slide.stride[1] - slide.padding[2] + j * slide.dilation[1]
        if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
            terms += list(x[y, z, found.first[k] : found.first[k] + kernel.shape[2]] * kernel[i, j])
    if found.shortcut:
        terms.append(float(inspection.value(found.shortcut)[row, column, found.channels[k]]))
    return _activate(found.activation, float(found.slopes[k]), math.fsum(terms))


@pytest.mark.parametrize("name", ENDS)
def test_a_recipe_adds_up_to_the_engines_numbers(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    random = np.random.default_rng(1)
    for node in ENDS[name]:
        value = inspection.value(node)
        height, width, channels = value.shape
        chosen = random.permutation(channels)[:3].tolist()
        found = recipe(inspection, node, chosen)
        assert found.values[-1] == node
        for k, channel in enumerate(chosen):
            for row, column in ((0, 0), (height - 1, width - 1), (height // 2, 1)):
                cell = arithmetic(inspection, node, channel, (row, column))
                expected = readd(inspection, found, k, row, column)
                scale = max(1.0, cell.magnitude)
                assert abs(expected - float(value[row, column, channel])) < 1e-5 * scale
                if not found.separate:
                    assert expected == pytest.approx(cell.value, abs=1e-12 * scale)


def test_a_recipe_is_refused_where_there_is_none(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    with pytest.raises(UsageError, match="recipe of max_pooling"):
        recipe(inspection, "maxpool", [0])
    with pytest.raises(UsageError, match="channel 99"):
        recipe(inspection, "relu", [99])
    with pytest.raises(UsageError, match="no feature maps"):
        recipe(inspection, "fc", [0])


def test_patterns_of_many_layers_are_those_of_each(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    asked = {"layer2.0.relu3": [0, 5], "relu": [2], "layer1.0.relu1": [1, 3], "layer1.1.relu3": [7]}
    together = deconvnet_layers(inspection, asked)
    assert set(together) == set(asked)
    for node, channels in asked.items():
        for ours, alone in zip(together[node], deconvnet(inspection, node, channels), strict=True):
            assert (ours.channel, ours.row, ours.box) == (alone.channel, alone.row, alone.box)
            scale = max(1e-6, float(np.abs(alone.pattern).max()))
            assert np.abs(ours.pattern - alone.pattern).max() < 1e-5 * scale


def test_a_way_around(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    assert passes_through(inspection, "layer1.0.relu3", "layer2.0.relu3")
    assert not passes_through(inspection, "layer1.0.relu1", "layer2.0.relu3")


@pytest.mark.parametrize("name", ["bottleneck", "plain", "sigmoid", "prelu"])
def test_gradient_norms_are_those_of_small_steps(inspect: Inspect, name: str) -> None:
    """The gradient at the input, against the loss a small step along it makes, in float64."""
    from lushan.graph import interpret

    inspection = inspect(name)
    best = int(inspection.scores.argmax())
    norms = gradient_norms(inspection, best, ENDS[name])
    assert set(norms) == {"input", *ENDS[name]}
    weights = {
        key: np.asarray(inspection.model.weights[key], np.float64)
        for key in inspection.model.weights
    }
    program = interpret.compile(inspection.graph, weights)
    x = inspection.input.astype(np.float64)
    probabilities = softmax(exact_values(inspection)[inspection.output][0])
    assert norms["input"] > 0
    from lushan.explain.projections import send_back

    signal = softmax(inspection.scores)[None].astype(np.float32)
    signal[0, best] -= 1
    gradient = send_back(inspection, inspection.output, "input", signal, "gradient")
    assert norms["input"] == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-5)
    step = 1e-6 / norms["input"]

    def loss(at: np.ndarray) -> float:
        scores = program({"input": at})[inspection.output][0]
        return -math.log(softmax(scores)[best])

    slope = (loss(x + step * gradient) - loss(x - step * gradient)) / (2 * step)
    assert 0 < probabilities[best] < 1
    assert slope == pytest.approx(norms["input"] ** 2, rel=1e-2)


def test_values_that_begin_at_known_ones_are_the_same_bits(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    inspection.forget()
    at_once = {name: value.copy() for name, value in inspection.values(inspection.nodes).items()}
    inspection.forget()
    for name in inspection.nodes:
        inspection.forget(but=inspection.nodes)
        assert np.array_equal(inspection.value(name), at_once[name]), name
    inspection.forget(but=["relu", "nowhere"])
    assert np.array_equal(inspection.value("layer2.0.relu3"), at_once["layer2.0.relu3"])
