"""What a training step computes together on its way back, and where the joint node stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lushan.cpu import executor
from lushan.cpu.gradient_chains import join_gradients
from lushan.graph.ir import Graph, Node
from lushan.graph.training import TrainingProgram, one_hot, training_state, training_step
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build

SMALL = ResNet("bottleneck", (2, 1), (16, 20), classes=10, stem_channels=16)


def joined(keep: tuple[str, ...] = (), **changes: Any) -> tuple[Graph, list[Node]]:
    step = training_step(build(replace(SMALL, **changes)))
    nodes = join_gradients(step, step.nodes, keep, lambda node: node.options["stride"] == (1, 1))
    known = {value.name for value in (*step.inputs, *step.parameters)}
    updated: set[str] = set()
    for node in nodes:  # every value is made before it is read, and no weight is changed by then
        assert known.issuperset(node.inputs), node.name
        if node.operator == "convolution_backward_input":
            assert node.inputs[1] not in updated
        known.update(node.outputs)
        updated.update(node.updates)
    every = {name for node in step.nodes for name in node.outputs}
    assert (every - known).isdisjoint({*step.outputs, *keep})
    return step, nodes


def test_a_sum_and_a_gate_are_taken_up() -> None:
    step, nodes = joined()
    chains = [node for node in nodes if len(node.inputs) > 3 and "gate" in node.options]
    assert all(node.operator == "convolution_backward_input" for node in chains)
    sums = [node for node in chains if node.options.get("residual")]
    (block,) = (node for node in sums if node.inputs[1] == "layer1.1.conv1.weight")
    assert block.inputs[4] == "layer1.0.relu3" and block.options["slope"] == 0.0
    assert block.inputs[3] in {name for node in step.nodes for name in node.outputs}
    (point,) = (node for node in chains if node.inputs[1] == "layer1.1.conv3.weight")
    assert point.inputs[3:] == ("layer1.1.relu2",) and "residual" not in point.options
    taken = {name for node in step.nodes for name in node.outputs}
    taken -= {name for node in nodes for name in node.outputs}
    assert taken and block.inputs[3] not in taken


def test_what_is_wanted_or_no_gate_stays() -> None:
    _, nodes = joined()
    point = next(
        node
        for node in nodes
        if node.inputs[1:2] == ("layer1.1.conv3.weight",)
        and node.operator == "convolution_backward_input"
    )
    inner = "layer1.1.relu2.gradient"
    assert point.name != inner
    _, kept = joined(keep=(inner,))
    assert any(node.outputs == (inner,) and len(node.inputs) == 3 for node in kept)
    _, leaky = joined(activation="leaky_relu")
    assert {node.options["slope"] for node in leaky if "gate" in node.options} == {0.01}
    _, smooth = joined(activation="tanh")
    assert not any("gate" in node.options for node in smooth)


def test_a_chain_changes_no_bit(monkeypatch: Any) -> None:
    step = training_step(build(SMALL))
    random = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "input": random.standard_normal((3, 40, 44, 3), np.float32),
        "targets": one_hot(np.arange(3), 10),
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }

    def trained() -> dict[str, Any]:
        state = training_state(step, initial_weights(build(SMALL), seed=0))
        program = TrainingProgram(step, state, executor.compile, threads=2)
        for _ in range(2):
            program.step(inputs)
        program.close()
        return {name: array.copy() for name, array in program.parameters.items()}

    together = trained()
    monkeypatch.setattr(
        "lushan.cpu.gradient_rules.is_direct_input_gradient", lambda context, node: False
    )
    for name, array in trained().items():
        assert np.array_equal(array, together[name]), name
