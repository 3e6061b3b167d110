"""Whole training steps on the CPU engine: the reference's numbers, the same on any threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lushan.cpu import executor
from lushan.cpu.code import code_store
from lushan.cpu.target import Target, detect
from lushan.cpu.team import Team
from lushan.cpu.winograd_gradient_kernels import SliceSumsKernel
from lushan.cpu.winograd_kernels import WinogradKernel
from lushan.cpu.winograd_parameter_packing import InputPanelsKernel, OutputPanelsKernel
from lushan.errors import GraphError
from lushan.graph import interpret
from lushan.graph.training import (
    TrainingProgram,
    one_hot,
    training_state,
    training_step,
)
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build
from support.compare import relative_rms
from support.lowering import lowered_for

pytestmark = pytest.mark.usefixtures("poison")
Array = np.ndarray[Any, Any]
SMALL = ResNet("basic", (1, 1), (16, 20), classes=10, stem_channels=16)
NETWORKS = {
    "basic": SMALL,
    "bottleneck": replace(SMALL, block="bottleneck"),
    "zero padding": replace(
        SMALL, shortcut="zero_padding", stem_pooling="none", stem_stride=1, stem_kernel=3
    ),
    "plain": replace(SMALL, shortcut="none", batch_norm=False, activation="tanh"),
    "average": replace(SMALL, stem_pooling="average", activation="leaky_relu"),
    "sigmoid": replace(SMALL, activation="sigmoid"),
    "prelu": replace(SMALL, activation="prelu", batch_norm=False),
}
RATES = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


def batch(number: int, size: int = 6, side: int = 20) -> dict[str, Array]:
    random = np.random.default_rng(number)
    x = random.standard_normal((size, side, side + 3, 3), np.float32)
    return {"input": x, "targets": one_hot(random.integers(0, 10, size), 10)}


def cpu(target: Target | None = None, threads: int = 2) -> Any:
    def engine(graph: Any, weights: Any, *, threads: int | None = threads) -> executor.CpuProgram:
        return executor.compile(graph, weights, threads=threads, target=target)

    return engine


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frozen", [(), ("conv1", "bn1"), ("layer1",)])
def test_a_step_is_the_references(target: Target, name: str, frozen: tuple[str, ...]) -> None:
    graph = build(NETWORKS[name])
    frozen = tuple(f for f in frozen if any(v.name.startswith(f"{f}.") for v in graph.parameters))
    step = training_step(graph, frozen=frozen, label_smoothing=0.1, watch=True, clip=3.0)
    weights = initial_weights(graph, seed=0)
    double = {n: w.astype(np.float64) for n, w in weights.items()}
    ours = TrainingProgram(step, training_state(step, weights), cpu(target), threads=2)
    exact = TrainingProgram(step, training_state(step, double), interpret.compile)
    values = ours.step({**batch(0), **RATES})
    expected = exact.step({**batch(0), **RATES})
    assert values.keys() == expected.keys()
    # In float32 a number on the edge of a ReLU may fall on its other side: gradients of a few
    # pixels change, whatever the engine.
    for key, value in expected.items():
        assert values[key].shape == value.shape
        assert relative_rms(values[key], value) <= 1e-3, key
    assert relative_rms(values["scores"], expected["scores"]) <= 1e-5
    for key, value in exact.parameters.items():
        assert relative_rms(ours.parameters[key], value) <= 1e-3, key


def losses(program: TrainingProgram, numbers: range) -> list[bytes]:
    return [program.step({**batch(n), **RATES})["loss"].tobytes() for n in numbers]


@pytest.mark.parametrize("name", ["basic", "zero padding"])
def test_threads_change_nothing_and_saved_parameters_go_on_bit_for_bit(name: str) -> None:
    graph = build(NETWORKS[name])
    step = training_step(graph, clip=1.0)
    state = training_state(step, initial_weights(graph, seed=0))
    programs = [TrainingProgram(step, state, cpu(), threads=threads) for threads in (1, 2, 4)]
    found = [losses(program, range(3)) for program in programs]
    assert found[0] == found[1] == found[2]
    saved = {key: array.copy() for key, array in programs[0].parameters.items()}
    resumed = TrainingProgram(step, saved, cpu(), threads=2)
    for key, array in saved.items():
        programs[2].parameters[key][...] = array
    assert losses(programs[0], range(3, 6)) == losses(resumed, range(3, 6))
    for key, array in programs[0].parameters.items():
        assert array.tobytes() == resumed.parameters[key].tobytes(), key
    for program in programs:
        program.close()


def test_it_learns_and_the_trained_weights_answer() -> None:
    graph = build(NETWORKS["zero padding"])
    step = training_step(graph)
    program = TrainingProgram(step, training_state(step, initial_weights(graph, seed=0)), cpu())
    values = [program.step({**batch(0), **RATES}) for _ in range(60)]
    assert values[-1]["loss"] < 0.05 < values[0]["loss"]
    weights = {v.name: program.parameters[v.name] for v in graph.parameters}
    scores = executor.compile(graph, weights)({"input": batch(0)["input"]})["fc"]
    assert (scores.argmax(1) == batch(0)["targets"].argmax(1)).all()


def test_pictures_and_batches_of_other_sizes() -> None:
    graph = build(NETWORKS["basic"])
    step = training_step(graph)
    state = training_state(step, initial_weights(graph, seed=0))
    ours = TrainingProgram(step, state, cpu())
    theirs = TrainingProgram(step, state, interpret.compile)
    for number, (size, side) in enumerate([(3, 24), (8, 17), (3, 24), (1, 40)]):
        inputs = {**batch(number, size, side), **RATES, "learning_rate": 1e-3}
        a, b = ours.step(inputs)["loss"], theirs.step(inputs)["loss"]
        assert a == pytest.approx(float(b), rel=2e-3)


def test_what_the_caller_has_is_not_changed() -> None:
    graph = build(NETWORKS["basic"])
    step = training_step(graph, frozen=("conv1",))
    state = training_state(step, initial_weights(graph, seed=0))
    before = {name: array.copy() for name, array in state.items()}
    program = TrainingProgram(step, state, cpu())
    inputs = batch(0)
    copies = {name: array.copy() for name, array in inputs.items()}
    program.step({**inputs, **RATES})
    assert all(np.array_equal(inputs[name], copies[name]) for name in inputs)
    assert all(np.array_equal(state[name], before[name]) for name in state)
    assert np.array_equal(program.parameters["conv1.weight"], before["conv1.weight"])
    with pytest.raises(ValueError, match="read-only"):
        program.parameters["conv1.weight"][...] = 0
    program.close()
    assert program.parameters["fc.weight"].shape == (10, 20)
    with pytest.raises(GraphError, match="closed"):
        program.step({**inputs, **RATES})


def test_a_step_that_was_interrupted_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(NETWORKS["basic"])
    step = training_step(graph)
    program = TrainingProgram(step, training_state(step, initial_weights(graph, seed=0)), cpu())
    inputs = {**batch(0), **RATES}
    with pytest.raises(GraphError, match="received shape"):
        program.step({**inputs, "input": inputs["input"][0]})
    program.step(inputs)  # what did not begin does no harm

    def interrupted(team: Team, work: Any, most: int | None = None) -> None:
        work(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(Team, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.step(inputs)
    with pytest.raises(GraphError, match="closed"):
        program.step(inputs)


def test_winograd_is_in_a_step_unless_it_is_not_wanted() -> None:
    graph = build(NETWORKS["zero padding"])
    step = training_step(graph)
    state = training_state(step, initial_weights(graph, seed=0))
    inputs = {n: np.asarray(v, np.float32) for n, v in {**batch(0), **RATES}.items()}
    shapes = {n: v.shape for n, v in inputs.items()}
    kinds = (WinogradKernel, OutputPanelsKernel, InputPanelsKernel, SliceSumsKernel)
    lowered = lowered_for(detect(), step, state, shapes)
    used = {type(task.kernel) for step in lowered.steps for task in step.tasks}
    assert used.issuperset(kinds)
    exact = interpret.compile(step, state)(inputs)["scores"]
    errors = []
    for winograd in (True, False):
        program = executor.compile(step, state, winograd=winograd)
        errors.append(relative_rms(program(inputs)["scores"], exact))
    assert errors[1] < errors[0] <= 1e-5


def test_kernels_know_nothing_of_height_and_batch() -> None:
    graph = build(NETWORKS["basic"])
    step = training_step(graph, watch=True)
    program = TrainingProgram(step, training_state(step, initial_weights(graph, seed=0)), cpu())
    program.step({**batch(0, 6), **RATES})
    before = code_store(detect()).kernels
    inputs = batch(1, 9)
    program.step({**inputs, "input": np.tile(inputs["input"], (1, 2, 1, 1)), **RATES})
    assert code_store(detect()).kernels == before


@pytest.mark.parametrize("name", ["zero padding", "bottleneck", "average"])
def test_no_step_changes_a_value_that_another_still_reads(name: str) -> None:
    """Every value of a step, kept to its end, is the same as when memory is used again.

    And as when what follows batch norm is computed with it: nothing is, of what is kept.
    """
    graph = build(NETWORKS[name])
    step = training_step(graph)
    state = training_state(step, initial_weights(graph, seed=0))
    names = [name for node in step.nodes for name in node.outputs]
    inputs = {n: np.asarray(v, np.float32) for n, v in {**batch(0), **RATES}.items()}
    kept = executor.compile(step, state, keep=names, threads=2)
    plain = executor.compile(step, state, threads=2)
    assert kept(inputs)["loss"] == plain(inputs)["loss"]
    for key, array in kept.parameters.items():
        assert array.tobytes() == plain.parameters[key].tobytes(), key
