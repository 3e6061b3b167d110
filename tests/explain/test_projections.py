"""Deconvnet and guided gradients against their definition in plain NumPy, on both engines."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import Inspect
from explain.definition import send_back as defined
from lushan.errors import UsageError
from lushan.explain import (
    Inspection,
    deconvnet,
    guided_backpropagation,
    pooling_switches,
    strongest_channels,
)
from lushan.explain.projections import send_back
from lushan.models.zoo import random_model
from lushan.recognizer import Recognizer
from support.compare import relative_error

LAYERS = {
    "bottleneck": ("conv1", "bn1", "relu", "maxpool", "layer1.0.add", "layer2.0.relu3", "fc"),
    "basic": ("relu", "layer1.0.relu1", "layer2.0.shortcut", "layer3.0.conv2", "layer3.0.relu2"),
    "plain": ("avgpool1", "layer2.0.conv1", "avgpool", "linear"),
}


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize("rule", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize(("name", "layer"), [(n, x) for n in LAYERS for x in LAYERS[n]])
def test_what_arrives_is_as_defined(
    inspect: Inspect, name: str, layer: str, rule: str, engine: str
) -> None:
    inspection = inspect(name, engine)
    model = inspection.model
    random = np.random.default_rng(1)
    signals = random.standard_normal((2, *inspection.shape(layer)), np.float32)
    found = send_back(inspection, layer, "input", signals, rule)
    for signal, pattern in zip(signals, found, strict=True):
        expected = defined(
            model.graph, model.weights, inspection.input[0], layer, signal, "input", rule
        )
        assert np.abs(expected).max() > 1e-3
        assert relative_error(pattern, expected) <= 1e-5


@pytest.mark.parametrize("project", [deconvnet, guided_backpropagation])
@pytest.mark.parametrize("at", ["strongest", "all", (2, 3)])
def test_one_activation_is_taken_out_of_the_layer(inspect: Inspect, project, at) -> None:
    inspection = inspect("bottleneck")
    model, layer = inspection.model, "layer1.1.relu3"
    maps = inspection.value(layer)
    channels = [channel.channel for channel in strongest_channels(inspection, layer, 3)]
    found = project(inspection, layer, channels, at=at)
    assert [p.channel for p in found] == channels
    for projection in found:
        signal = np.zeros(maps.shape)
        plane = maps[..., projection.channel]
        place = np.unravel_index(plane.argmax(), plane.shape) if at == "strongest" else at
        start = (slice(None), slice(None)) if at == "all" else tuple(place)
        chosen = (*start, projection.channel)
        signal[chosen] = maps[chosen] if project is deconvnet else 1
        rule = "deconvnet" if project is deconvnet else "guided"
        expected = defined(
            model.graph, model.weights, inspection.input[0], layer, signal, "input", rule
        )
        assert relative_error(projection.pattern, expected) <= 1e-5
        if at == "all":
            assert (projection.row, projection.column) == (None, None)
            assert projection.box == (0, 0, *inspection.size)
            assert projection.activation == plane.max()
        else:
            assert (projection.row, projection.column) == tuple(place)
            assert projection.activation == plane[start]
            top, left, bottom, right = projection.box
            outside = projection.pattern.copy()
            outside[top:bottom, left:right] = 0
            assert not outside.any()


def test_many_channels_are_cut_into_batches(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection = inspect("bottleneck")
    layer = "layer1.0.relu3"
    together = deconvnet(inspection, layer, range(5))
    monkeypatch.setattr("lushan.explain.projections._BATCH_BYTES", 1)
    for one, other in zip(deconvnet(inspection, layer, range(5)), together, strict=True):
        assert np.array_equal(one.pattern, other.pattern)
    assert deconvnet(inspection, layer, []) == []


def test_a_class_goes_back_from_the_scores(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    found = guided_backpropagation(inspection, "fc", [2])[0]
    assert (found.row, found.column) == (None, None)
    assert found.activation == inspection.scores[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layer1.0.relu9", [0]), "no layer 'layer1.0.relu9'; the nearest are: layer1.0.relu"),
        (("layer1.0.relu3", [16]), "channel 16: layer1.0.relu3 has the channels 0 to 15"),
        (("layer1.0.relu3", [-1]), "channel -1"),
    ],
)
def test_what_there_is_not_is_named(inspect: Inspect, arguments, message: str) -> None:
    for project in (deconvnet, guided_backpropagation):
        with pytest.raises(UsageError, match=message):
            project(inspect("bottleneck"), *arguments)


def test_a_place_beyond_the_map_is_refused(inspect: Inspect) -> None:
    with pytest.raises(UsageError, match="row 0, column 11: the maps of maxpool have 10×11"):
        deconvnet(inspect("bottleneck"), "maxpool", [0], at=(0, 11))


@pytest.mark.parametrize("name", ["leaky", "prelu", "sigmoid", "tanh"])
def test_other_activations_are_refused_by_name(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    operator = inspection.model.network.activation
    for project in (deconvnet, guided_backpropagation):
        with pytest.raises(UsageError, match=f"relu is {operator}: use Grad-CAM"):
            project(inspection, inspection.last_maps, [0])
    before = next(node.name for node in inspection.graph.nodes if node.operator == "convolution")
    assert deconvnet(inspection, before, [0])[0].pattern.any()  # no activation is on that way


def test_switches_are_those_of_the_engine_on_resnet50() -> None:
    with Recognizer(random_model("resnet50", seed=2)) as recognizer:
        pixels = np.random.default_rng(4).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        inspection = Inspection(recognizer, pixels)
        before, after = (inspection.value(name) for name in ("relu", "maxpool"))
        switches = pooling_switches(inspection, "maxpool")
        assert switches.shape == after.shape == (56, 56, 64)
        won = np.take_along_axis(before.reshape(-1, 64), switches.reshape(-1, 64), axis=0)
        assert np.array_equal(won.reshape(after.shape), after)
        # Each signal goes to the pixel that its switch names, and to no other.
        signals = np.random.default_rng(5).uniform(1, 2, (1, *after.shape)).astype(np.float32)
        unpooled = send_back(inspection, "maxpool", "relu", signals, "deconvnet")[0]
        expected = np.zeros((112 * 112, 64))
        for channel in range(64):
            np.add.at(
                expected[:, channel],
                switches[..., channel].ravel(),
                signals[0, ..., channel].ravel(),
            )
        assert relative_error(unpooled, expected.reshape(before.shape)) <= 1e-6
        # All the way, the pattern stays in the receptive field.
        for layer in ("layer1.0.relu3", "layer2.0.relu3"):
            (found,) = deconvnet(
                inspection, layer, [strongest_channels(inspection, layer)[0].channel]
            )
            assert found.pattern.any()
