"""The same answer, always: bits that no batch, position, thread count or timing changes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from lushan.cpu import executor
from lushan.cpu.executor import CpuProgram
from lushan.cpu.target import Target, detect
from lushan.graph import interpret
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from support.random_graphs import random_weights

BOTTLENECK = ResNet(
    "bottleneck",
    (2, 1, 1),
    (16, 40, 24),
    stem_channels=24,
    stem_kernel=7,
    stem_stride=2,
    stem_pooling="max",
    classes=13,
)
NETWORKS = {
    "resnet20_cifar": (ARCHITECTURES["resnet20_cifar"], 32),
    "bottleneck": (BOTTLENECK, 45),
    "resnet18": (ARCHITECTURES["resnet18"], 64),
}


def programs(network: ResNet, target: Target) -> list[CpuProgram]:
    """Return the same network on 1, 2 and 4 threads."""
    graph = build(network)
    weights = random_weights(graph, seed=2)
    return [
        executor.compile(graph, weights, threads=threads, target=target) for threads in (1, 2, 4)
    ]


def scores(program: CpuProgram, batch: np.ndarray) -> np.ndarray:
    (result,) = program({INPUT: batch}).values()
    return result


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, size, size, 3)).astype(np.float32)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_one_picture_alone_and_everywhere_in_a_batch(target: Target, name: str) -> None:
    network, size = NETWORKS[name]
    everyone = pictures(64, size)
    one, *others = programs(network, target)
    alone = np.concatenate([scores(one, everyone[i : i + 1]) for i in range(64)])
    assert np.isfinite(alone).all()
    assert len(np.unique(alone[:, 0])) == 64
    for seed, program in enumerate((one, *others)):
        for i in (0, 1, 63):
            assert same_bits(scores(program, everyone[i : i + 1]), alone[i : i + 1])
        for batch in (2, 7):
            for position in range(batch):
                moved = np.roll(everyone[:batch], position, axis=0)
                assert same_bits(scores(program, moved), np.roll(alone[:batch], position, axis=0))
        order = np.random.default_rng(seed).permutation(64)
        for chosen in (np.arange(64), order, np.full(64, order[0])):  # the last: in every place
            assert same_bits(scores(program, everyone[chosen]), alone[chosen])
        program.close()


def test_resnet50() -> None:
    everyone = pictures(7, 64)
    graph = build(ARCHITECTURES["resnet50"])
    weights = random_weights(graph, seed=2)
    program = executor.compile(graph, weights, threads=2)
    together = scores(program, everyone)
    for i in (0, 6):
        assert same_bits(scores(program, everyone[i : i + 1]), together[i : i + 1])
    program.close()
    for threads in (1, 4):
        program = executor.compile(graph, weights, threads=threads)
        assert same_bits(scores(program, everyone[::-1].copy()), together[::-1])
        program.close()


def test_batches_in_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    network, size = NETWORKS["bottleneck"]
    everyone = pictures(7, size)
    program = programs(network, detect())[1]
    whole = scores(program, everyone)
    shapes = []
    run = CpuProgram._run

    def spied(
        self: CpuProgram, arrays: dict[str, np.ndarray], threads: int | None
    ) -> dict[str, np.ndarray]:
        shapes.append(len(arrays[INPUT]))
        return run(self, arrays, threads)

    monkeypatch.setattr(CpuProgram, "_run", spied)
    one = program._plan(((1, size, size, 3),)).arena_bytes
    cases = (([7], 7 * one), ([3, 3, 1], 3 * one + 1), ([4, 3], 6 * one), ([1] * 7, 1))
    for pieces, limit in cases:
        monkeypatch.setattr(executor, "RUN_BYTES", limit)
        shapes.clear()
        assert same_bits(scores(program, everyone), whole)
        assert shapes == pieces
    program.close()


@pytest.mark.parametrize("limit", [1 << 40, 1])
def test_values_that_are_kept_are_whole(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a halo around them and without, of pictures and of classes, in one run and in many."""
    monkeypatch.setattr(executor, "RUN_BYTES", limit)
    graph = build(ARCHITECTURES["resnet18"])
    weights = random_weights(graph, seed=3)
    keep = [INPUT, "conv1", "maxpool", *(n.name for n in graph.nodes if "layer2" in n.name)]
    everyone = pictures(5, 40)
    program = executor.compile(graph, weights, keep=keep, threads=2)
    together = program({INPUT: everyone})
    for index in range(5):
        alone = program({INPUT: everyone[index : index + 1]})
        for name, values in together.items():
            assert same_bits(alone[name], values[index : index + 1]), name
    exact = interpret.compile(graph, weights, keep=keep)({INPUT: everyone})
    for name, values in together.items():
        assert values.shape == exact[name].shape
        assert np.abs(values - exact[name]).max() <= 1e-3 * np.abs(exact[name]).max(), name
    program.close()


def test_the_arena_and_scratch_before_a_run_do_not_matter(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, size = NETWORKS["bottleneck"]
    everyone = pictures(3, size)
    program = programs(network, target)[1]
    borrow = CpuProgram._borrow
    answers = []
    for byte in (0, 255, 127):  # zeros, NaN, and 3.4e38

        def filled(self: CpuProgram, size: int, byte: int = byte) -> np.ndarray:
            arena = borrow(self, size)
            arena[:] = byte
            return arena

        monkeypatch.setattr(CpuProgram, "_borrow", filled)
        answers.append(scores(program, everyone))
        assert same_bits(answers[0], answers[-1])
    assert np.isfinite(answers[0]).all()
    program.close()


def test_eight_callers_at_once_on_one_program_and_on_two() -> None:
    network, size = NETWORKS["bottleneck"]
    everyone = pictures(8, size)
    first, second = programs(network, detect())[1:]
    alone = scores(first, everyone)
    wrong: list[object] = []

    def call(index: int) -> None:
        random = np.random.default_rng(index)
        try:
            for turn in range(30):
                program = (first, second)[(index + turn) % 2] if turn >= 10 else first
                chosen = random.permutation(8)[: random.integers(1, 8)]
                if not same_bits(scores(program, everyone[chosen]), alone[chosen]):
                    wrong.append((index, turn))
        except BaseException as error:
            wrong.append(error)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert wrong == []
    first.close()
    second.close()
