"""The training step: its state, its outputs, clipping, and what it keeps for how long."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.errors import GraphError, UsageError
from lushan.graph import interpret
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.liveness import last_uses
from lushan.graph.printer import to_text
from lushan.graph.training import (
    TrainingProgram,
    one_hot,
    training_state,
    training_step,
)
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build

NETWORK = build(ResNet("basic", (1, 1), (4, 6), classes=3, stem_channels=4, stem_kernel=3))
RATES = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


def batch(number: int) -> dict[str, Array]:
    random = np.random.default_rng(number)
    labels = one_hot(random.integers(0, 3, 5), 3)
    return {"input": random.standard_normal((5, 12, 10, 3), np.float32), "targets": labels}


def program(step: Graph, state: dict[str, Array] | None = None) -> TrainingProgram:
    weights = initial_weights(NETWORK, seed=0)
    return TrainingProgram(step, state or training_state(step, weights), interpret.compile)


def test_a_step_gives_loss_and_scores_and_changes_the_state_alone() -> None:
    weights = initial_weights(NETWORK, seed=0)
    before = {name: array.copy() for name, array in weights.items()}
    step = training_step(NETWORK)
    state = training_state(step, weights)
    saved = {name: array.copy() for name, array in state.items()}
    running = TrainingProgram(step, state, interpret.compile)
    values = running.step({**batch(0), **RATES})
    assert values.keys() == {"loss", "scores"}
    assert values["scores"].shape == (5, 3)
    for arrays, old in ((weights, before), (state, saved)):
        assert all(np.array_equal(arrays[name], old[name]) for name in old)
    assert not any(np.array_equal(running.parameters[name], before[name]) for name in before)


def test_saved_parameters_go_on_bit_for_bit() -> None:
    step = training_step(NETWORK, clip=1.0)
    unbroken = program(step)
    for number in range(3):
        unbroken.step({**batch(number), **RATES})
    saved = {name: array.copy() for name, array in unbroken.parameters.items()}
    resumed = program(step, saved)
    written = program(step)
    for name, array in saved.items():
        written.parameters[name][...] = array
    for number in range(3, 6):
        losses = [p.step({**batch(number), **RATES})["loss"].tobytes()
                  for p in (unbroken, resumed, written)]  # fmt: skip
        assert len(set(losses)) == 1
    for name, array in unbroken.parameters.items():
        assert array.tobytes() == resumed.parameters[name].tobytes(), name
        assert array.tobytes() == written.parameters[name].tobytes(), name


def test_watching_gives_the_norm_of_every_gradient() -> None:
    step = training_step(NETWORK, watch=True)
    values = program(step).step({**batch(0), **RATES})
    trained = [v.name.removesuffix(".velocity") for v in step.parameters
               if v.name.endswith(".velocity")]  # fmt: skip
    norms = [float(values[f"{name}.gradient_norm"]) for name in trained]
    assert "layer1.0.bn1.bias" in trained and "fc.weight" in trained
    assert float(values["gradient_norm"]) == pytest.approx(np.linalg.norm(norms))
    assert min(norms) > 0


def moves(clip: float | None) -> dict[str, Array]:
    """Return how far a step moves each trained parameter: by its gradient."""
    running = program(training_step(NETWORK, clip=clip))
    before = {name: array.copy() for name, array in running.parameters.items()}
    running.step({**batch(0), "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0})
    trained = [name for name in before if f"{name}.velocity" in before]
    return {name: before[name] - running.parameters[name] for name in trained}


def total(arrays: dict[str, Array]) -> float:
    return float(np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in arrays.values())))


@pytest.mark.parametrize(("share", "factor"), [(0.1, 0.1), (10, 1)])
def test_clipping_shrinks_all_gradients_alike(share: float, factor: float) -> None:
    plain = moves(None)
    clipped = moves(share * total(plain))
    assert total(clipped) == pytest.approx(factor * total(plain), rel=1e-4)
    for name, move in clipped.items():
        np.testing.assert_allclose(move, factor * plain[name], rtol=2e-3, atol=2e-6)


def test_gradients_of_weights_live_for_a_moment() -> None:
    step = training_step(NETWORK)
    alive: set[str] = set()
    most = 0
    for node, ends in zip(step.nodes, last_uses(step), strict=True):
        alive.update(node.outputs)
        most = max(most, sum(".weight.gradient" in name for name in alive))
        alive.difference_update(ends)
    assert most <= 2  # those of a batch norm and of the convolution before it


def test_what_batch_norm_gives_to_a_relu_is_not_kept() -> None:
    step = training_step(NETWORK)
    index = next(i for i, node in enumerate(step.nodes) if node.operator == "relu")
    assert step.nodes[index].inputs[0] in last_uses(step)[index]


def test_a_step_prints() -> None:
    text = to_text(training_step(NETWORK, frozen=("conv1",), clip=2.0))
    assert "\nsgd(fc.weight, fc.weight.velocity, fc.weight.gradient, learning_rate, " in text
    assert " nesterov=True updates(fc.weight, fc.weight.velocity)\n" in text
    assert text.endswith("output loss, scores, gradient_norm\n")


def test_what_does_not_fit_is_told() -> None:
    step = training_step(NETWORK)
    with pytest.raises(GraphError, match=r"no weights for the parameter 'conv1\.weight'"):
        training_state(step, {})
    with pytest.raises(GraphError, match=r"takes the inputs .*'targets'"):
        program(step).step({"input": batch(0)["input"], **RATES})
    with pytest.raises(GraphError, match=r"cross_entropy 'loss': an input should be"):
        program(step).step({**batch(0), **RATES, "targets": one_hot(np.array([0, 1]), 3)})
    with pytest.raises(GraphError, match=r"'clipping_factor': 0\.0 is no valid most"):
        training_step(NETWORK, clip=0)
    with pytest.raises(GraphError, match="is no valid label_smoothing"):
        training_step(NETWORK, label_smoothing=2)


@pytest.mark.parametrize("labels", [[0, 3], [-1], [[0]]])
def test_labels_that_no_class_has(labels: list[int]) -> None:
    with pytest.raises(UsageError, match="class indices should be a list of numbers from 0 to 2"):
        one_hot(np.array(labels), 3)


def test_one_hot() -> None:
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(np.array([2, 0]), 3).dtype == np.float32
