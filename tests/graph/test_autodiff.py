"""Gradients against differences of the loss, on random graphs in float64; and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.errors import GraphError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.graph.training import (
    RATES,
    TrainingProgram,
    one_hot,
    training_state,
    training_step,
)
from support.random_graphs import Case, classifiers, random_weights

PLAIN = {"learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}  # a step is the gradient


def gradients(case: Case, inputs: dict[str, np.ndarray], **options) -> dict[str, np.ndarray]:
    """Return the gradient of every parameter that a step trains."""
    step = training_step(case.graph, **options)
    program = TrainingProgram(step, training_state(step, case.weights), interpret.compile)
    program.step({**inputs, **PLAIN})
    after = program.parameters
    trained = [name for name in case.weights if f"{name}.velocity" in after]
    return {name: case.weights[name] - after[name] for name in trained}


def loss(case: Case, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> float:
    step = training_step(case.graph, label_smoothing=0.1)
    program = TrainingProgram(step, training_state(step, weights), interpret.compile)
    return float(program.step({**inputs, **dict.fromkeys(RATES, 0.0)})["loss"])


def in_float64(case: Case, seed: int) -> tuple[Case, dict[str, np.ndarray]]:
    """Return a case in float64, and its inputs: pictures and any distribution as targets."""
    random = np.random.default_rng(seed)
    classes = case.graph.node(case.graph.outputs[0]).inputs[1]
    targets = random.dirichlet(np.ones(len(case.weights[classes])), len(case.x))
    weights = {name: array.astype(np.float64) for name, array in case.weights.items()}
    return replace(case, weights=weights), {"input": case.x.astype(np.float64), "targets": targets}


@given(case=classifiers(), seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_gradients_are_differences_of_the_loss(case: Case, seed: int) -> None:
    case, inputs = in_float64(case, seed)
    random = np.random.default_rng(seed)
    for name, gradient in gradients(case, inputs, label_smoothing=0.1).items():
        direction = random.standard_normal(gradient.shape)
        expected = float((gradient * direction).sum())
        # Somewhere a difference may step over a corner of a ReLU: the smaller, the less likely.
        errors = []
        for width in (1e-4, 1e-6, 1e-7):
            there, back = (
                loss(case, inputs, {**case.weights, name: case.weights[name] + move * direction})
                for move in (width, -width)
            )
            errors.append(abs((there - back) / (2 * width) - expected))
        assert min(errors) <= 1e-5 * max(1.0, abs(expected)), name


def small(build) -> Case:
    """A case with the layers that ``build`` adds between pictures of three channels and scores."""
    builder = GraphBuilder()
    x = build(builder, builder.input("input", (None, None, None, 3)))
    pooled = builder.node("global_average_pooling", (x,), "pooled")
    graph = builder.build(builder.linear(pooled, "fc", 4))
    x = np.random.default_rng(2).standard_normal((2, 8, 8, 3), np.float32)
    return Case(graph, random_weights(graph, 3), x)


def shared_weight(builder: GraphBuilder, x: str) -> str:
    x = builder.convolution(x, "first", 3, kernel=3)
    options = dict(builder._nodes[-1].options)
    return builder.node("convolution", (x, "first.weight"), "second", **options)


def doubled(builder: GraphBuilder, x: str) -> str:
    x = builder.convolution(x, "conv", 3, kernel=3)
    return builder.node("add", (x, x), "twice")


def nowhere(builder: GraphBuilder, x: str) -> str:
    """A branch that does not reach the loss reads a weight that does, after it was read."""
    y = builder.convolution(x, "conv", 3, kernel=3)
    builder.node("relu", (builder.batch_norm(y, "dead"),), "end")
    return builder.node("relu", (y,), "relu")


def strided(builder: GraphBuilder, x: str) -> str:
    x = builder.convolution(x, "conv", 4, kernel=3, stride=2)
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    x = builder.node("max_pooling", (builder.batch_norm(x, "bn"),), "pool", **window)
    return builder.node("zero_padding_shortcut", (x,), "wider", stride=2, channels=7)


@pytest.mark.parametrize("build", [shared_weight, doubled, nowhere, strided])
def test_gradients_of_what_is_rare(build) -> None:
    test_gradients_are_differences_of_the_loss.hypothesis.inner_test(small(build), 5)


def test_what_does_not_reach_the_loss_is_not_trained() -> None:
    step = training_step(small(nowhere).graph)
    assert {"conv.weight.velocity", "fc.bias.velocity"} <= {v.name for v in step.parameters}
    assert "dead.weight.velocity" not in {v.name for v in step.parameters}


def layers() -> Graph:
    """A small network with two stages to freeze."""
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    for name in ("layer1", "layer10", "layer2"):
        x = builder.convolution(x, f"{name}.conv", 4, kernel=3)
        x = builder.node("relu", (builder.batch_norm(x, f"{name}.bn"),), f"{name}.relu")
    pooled = builder.node("global_average_pooling", (x,), "pooled")
    return builder.build(builder.linear(pooled, "fc", 4))


LAYERS = layers()
INPUTS = {
    "input": np.random.default_rng(2).standard_normal((3, 6, 6, 3), np.float32),
    "targets": one_hot(np.array([0, 3, 1]), 4),
}


def operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def test_a_frozen_prefix_does_not_move_and_costs_nothing() -> None:
    weights = random_weights(LAYERS, 0)
    step = training_step(LAYERS, frozen=("layer1",))
    program = TrainingProgram(step, training_state(step, weights), interpret.compile)
    program.step({**INPUTS, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1})
    for name, array in weights.items():
        assert np.array_equal(program.parameters[name], array) is name.startswith("layer1."), name
    assert operators(step).count("convolution_backward_weight") == 2
    assert operators(step).count("convolution_backward_input") == 1
    assert operators(step).count("batch_norm") == 1  # inference, with its running statistics
    with pytest.raises(ValueError, match="read-only"):
        program.parameters["layer1.conv.weight"][...] = 0


def test_gradients_pass_through_frozen_layers() -> None:
    case, inputs = in_float64(Case(LAYERS, random_weights(LAYERS, 0), INPUTS["input"]), 0)
    frozen = ("layer10", "layer2.bn.running_mean", "fc.bias")
    found = gradients(case, inputs, frozen=frozen)
    layers = ("layer1.", "layer2.")
    parts = ("bn.bias", "bn.weight", "conv.weight")
    assert sorted(found) == ["fc.weight", *(layer + part for layer in layers for part in parts)]
    for name, gradient in found.items():
        assert np.abs(gradient).max() > 0, name


def test_what_cannot_be_trained_is_told() -> None:
    with pytest.raises(GraphError, match="no parameter is called 'layer3' or begins with it"):
        training_step(LAYERS, frozen=("layer3",))
    with pytest.raises(GraphError, match="nothing is left to train"):
        training_step(LAYERS, frozen=("layer1", "layer10", "layer2", "fc"))
    two = replace(LAYERS, outputs=("fc", "pooled"))
    with pytest.raises(GraphError, match=r"trained on one output; this has \['fc', 'pooled'\]"):
        training_step(two)
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    weight = builder.parameter("up.weight", (3, 2, 2, 3))
    options = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    x = builder.node("transposed_convolution", (builder.convolution(x, "c", 3, kernel=1), weight),
                     "up", output_padding=(0, 0), **options)  # fmt: skip
    pooled = builder.node("global_average_pooling", (x,), "pooled")
    graph = builder.build(builder.linear(pooled, "fc", 4))
    with pytest.raises(GraphError, match="transposed_convolution 'up' has no gradient"):
        training_step(graph)
    training_step(graph, frozen=("c",))  # what nobody differentiates needs no derivative
