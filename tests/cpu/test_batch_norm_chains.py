"""Which nodes of a training step are computed together, and where the joint one stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lushan.cpu.batch_norm_chains import join_chains
from lushan.graph.ir import Node
from lushan.graph.training import training_step
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build

SMALL = ResNet("basic", (1, 1), (16, 20), classes=10, stem_channels=16)


def joined(keep: tuple[str, ...] = (), **changes: Any) -> dict[str, Node]:
    step = training_step(build(replace(SMALL, **changes)))
    nodes = join_chains(step, keep)
    known = {value.name for value in (*step.inputs, *step.parameters)}
    for node in nodes:  # every value is made before it is read
        assert known.issuperset(node.inputs), node.name
        known.update(node.outputs)
    every = {name for node in step.nodes for name in node.outputs}
    read = {name for node in step.nodes for name in node.inputs}
    assert (every - known).isdisjoint({*step.outputs, *keep})
    assert every - known <= read
    return {node.name: node for node in nodes}


def test_a_sum_and_an_activation_are_taken_up() -> None:
    nodes = joined()
    block = nodes["layer1.0.relu2"]
    assert block.operator == "batch_norm_training"
    assert block.inputs[0] == "layer1.0.conv2" and block.inputs[5] == "maxpool"
    assert block.outputs[1:] == ("layer1.0.bn2.mean", "layer1.0.bn2.variance")
    assert block.updates == ("layer1.0.bn2.running_mean", "layer1.0.bn2.running_var")
    assert block.options["activation"] == "relu"
    assert nodes["relu"].inputs[0] == "conv1" and len(nodes["relu"].inputs) == 5
    assert {"bn1", "layer1.0.bn2"}.isdisjoint(nodes)
    projected = nodes["layer2.0.relu2"]  # one of two batch norms takes up the sum, once
    assert {projected.inputs[0], projected.inputs[5]} & {"layer2.0.conv2", "layer2.0.downsample.0"}
    assert sum("layer2.0.relu2" in node.outputs for node in nodes.values()) == 1


def test_what_is_wanted_or_read_twice_stays() -> None:
    nodes = joined(keep=("bn1",))
    assert nodes["bn1"].operator == "batch_norm_training" and nodes["relu"].operator == "relu"
    slope = joined(activation="leaky_relu")
    assert slope["relu"].options["activation"] == "leaky_relu"
    assert slope["relu"].options["slope"] == 0.01
    smooth = joined(activation="tanh")
    assert "batch_norm_training" in {node.operator for node in smooth.values()}
    assert any(node.operator == "tanh" for node in smooth.values())
