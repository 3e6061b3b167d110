"""The family: published counts, right numbers against ONNX Runtime, one's own designs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lushan import passes
from lushan.errors import ModelError
from lushan.graph import interpret
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from lushan.models.summary import summarize
from support.compare import relative_error
from support.onnx_oracle import run_with_onnxruntime
from support.random_graphs import random_weights

SMALL = ResNet("basic", (1, 1), (4, 8), stem_channels=4, classes=3)

# Parameters as torchvision and He et al. publish them; weighted layers are in the name.
PUBLISHED = {
    "resnet18": (18, 11_689_512),
    "resnet34": (34, 21_797_672),
    "resnet50": (50, 25_557_032),
    "resnet101": (101, 44_549_160),
    "resnet152": (152, 60_192_808),
    "resnet20_cifar": (20, 269_722),
    "resnet32_cifar": (32, 464_154),
    "resnet44_cifar": (44, 658_586),
    "resnet56_cifar": (56, 853_018),
    "resnet110_cifar": (110, 1_727_962),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_published_counts(name: str) -> None:
    counts = summarize(build(ARCHITECTURES[name]), 224, 224)
    assert (counts.weighted_layers, counts.parameters) == PUBLISHED[name]


def test_counts_of_resnet50_layer_by_layer() -> None:
    counts = summarize(build(ARCHITECTURES["resnet50"]), 224, 224)
    layers = {layer.name: layer for layer in counts.layers}
    assert layers["conv1"].output_shape == (112, 112, 64)
    assert layers["conv1"].multiply_accumulates == 112 * 112 * 64 * 7 * 7 * 3
    assert layers["conv1"].parameters == 64 * 7 * 7 * 3
    assert layers["bn1"].parameters == 128
    assert layers["layer4.2.relu3"].output_shape == (7, 7, 2048)
    assert layers["fc"].parameters == 2048 * 1000 + 1000
    assert counts.weight_bytes == 4 * (25_557_032 + 2 * 26_560)  # with the running statistics
    # The most at once: the 56×56×256 outputs of branch and shortcut, and their sum.
    assert counts.peak_activation_bytes == 4 * 3 * 56 * 56 * 256


@pytest.mark.parametrize("size", [(224, 224), (192, 256), (65, 97)], ids=str)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152"])
def test_scores_equal_onnx_runtime(name: str, size: tuple[int, int]) -> None:
    graph = build(ARCHITECTURES[name])
    weights = random_weights(graph, seed=1)
    x = np.random.default_rng(2).standard_normal((1, *size, 3), np.float32)
    program = interpret.compile(*passes.apply(graph, weights))
    theirs = run_with_onnxruntime(graph, weights, {INPUT: x})["fc"]
    assert relative_error(program({INPUT: x})["fc"], theirs) <= 1e-4


@pytest.mark.parametrize(
    "network",
    [
        ARCHITECTURES["resnet20_cifar"],
        replace(SMALL, activation="prelu"),
        replace(SMALL, activation="leaky_relu", stem_pooling="average"),
        replace(SMALL, activation="tanh", batch_norm=False),
        replace(SMALL, activation="sigmoid", shortcut="none"),
        replace(SMALL, block="bottleneck", shortcut="zero_padding", stem_pooling="none"),
    ],
    ids=lambda network: f"{network.block}-{network.activation}-{network.shortcut}",
)
def test_designs_equal_onnx_runtime(network: ResNet) -> None:
    graph = build(network)
    weights = random_weights(graph, seed=3)
    x = np.random.default_rng(4).standard_normal((3, 33, 30, 3), np.float32)
    ours = interpret.compile(*passes.apply(graph, weights))({INPUT: x})[network.classifier]
    theirs = run_with_onnxruntime(graph, weights, {INPUT: x})[network.classifier]
    assert ours.shape == (3, network.classes)
    assert relative_error(ours, theirs) <= 1e-5


def test_a_plain_network_has_no_shortcuts() -> None:
    plain = build(replace(SMALL, shortcut="none"))
    assert not any(node.operator == "add" or "downsample" in node.name for node in plain.nodes)
    residual = build(SMALL)
    assert sum(node.operator == "add" for node in residual.nodes) == 2


def test_descriptions_survive_json() -> None:
    for network in (*ARCHITECTURES.values(), replace(SMALL, activation="prelu")):
        assert ResNet.from_dict(network.to_dict()) == network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "wide"}, "block of a network should be one of basic, bottleneck; it is 'wide'"),
        ({"activation": "gelu"}, "activation of a network"),
        ({"depths": [2, 0]}, "depths of a network should be whole numbers from 1 to 2147483647"),
        ({"depths": []}, "depths of a network"),
        ({"depths": 3}, "depths of a network"),
        ({"depths": [10**9, 1]}, "may have 10000 blocks in all; its depths ask for 1000000001"),
        ({"depths": [10**4000]}, "depths of a network should be whole numbers from 1"),
        ({"widths": [8] * 10**5}, "received [1, 1] and [8, 8, 8, 8, 8, 8, ...]"),
        ({"widths": [4]}, "as many depths as widths; received [1, 1] and [4]"),
        ({"classes": 2.5}, "classes of a network"),
        ({"classes": True}, "classes of a network"),
        ({"stem_kernel": 4}, "stem_kernel of a network should be odd; it is 4"),
        ({"shortcut": "zero_padding", "widths": [8, 4]}, "channels that never shrink"),
        ({"classifier": "a b"}, "classifier of a network should be a name"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"block": {}}, "block of a network"),
        ({"activation": [1]}, "activation of a network"),
    ],
)
def test_what_describes_no_network_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        ResNet.from_dict({**SMALL.to_dict(), **changes})
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_description_needs_block_and_depths() -> None:
    with pytest.raises(ModelError, match="lacks"):
        ResNet.from_dict({"classes": 3})
