"""Phases and memory of whole networks, checked anew from what every task touches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lushan.cpu.code import code_store
from lushan.cpu.lower import Lowered
from lushan.cpu.program import _lives, _schedule, build_program
from lushan.cpu.target import Target, detect
from lushan.cpu.task import Place
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from lushan.passes.plan_memory import plan_memory
from support.lowering import lowered_for
from support.random_graphs import random_weights

CASES = [
    ("resnet50", (1, 224, 224)),
    ("resnet50", (5, 97, 65)),
    ("resnet152", (2, 64, 64)),
    ("resnet20_cifar", (64, 32, 32)),
    ("resnet50", (16, 224, 224)),  # the early layers for two pictures at once
    ("resnet50", (11, 224, 160)),
    ("resnet50", (27, 128, 128)),  # parts of 14 and of 13, whose Winograd is another
]


def lowered_network(
    graph: Graph, shape: tuple[int, int, int], target: Target, keep: tuple[str, ...] = ()
) -> Lowered:
    weights = {value.name: np.ones(value.type.shape, np.float32) for value in graph.parameters}
    return lowered_for(target, graph, weights, {INPUT: (*shape, 3)}, keep, in_parts=True)


@pytest.mark.parametrize("keep", [(), ("conv1", "layer2.0.relu")], ids=["none", "some"])
@pytest.mark.parametrize(("name", "shape"), CASES, ids=[f"{n}-{s[0]}" for n, s in CASES])
def test_no_two_live_planes_overlap(
    name: str, shape: tuple[int, int, int], keep: tuple[str, ...]
) -> None:
    graph = build(ARCHITECTURES[name])
    keep = tuple(kept for kept in keep if kept in set(graph.value_names()))
    lowered = lowered_network(graph, shape, detect(), keep)
    check_memory(lowered)


def test_parts_whose_steps_have_other_barriers() -> None:
    """A part of 15 pictures transforms the input of b first, one of 14 strip by strip."""
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 16))
    pooling = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1)}
    narrow = builder.convolution(x, "y", 256, kernel=1)
    first, second = (builder.convolution(x, name, 1024, kernel=1) for name in "uz")
    a = builder.node("average_pooling", (first,), "a", **pooling, count_include_pad=True)
    b = builder.convolution(narrow, "b", 256, kernel=3)
    d = builder.node("average_pooling", (second,), "d", **pooling, count_include_pad=True)
    means = (builder.node("global_average_pooling", (v,), f"mean of {v}") for v in (a, b, d))
    graph = builder.build(*means)
    weights = random_weights(graph, 1)
    lowered = lowered_for(detect(), graph, weights, {"x": (29, 7, 7, 16)}, in_parts=True)
    check_memory(lowered)


def check_memory(lowered: Lowered) -> None:
    """Check the plan anew: nothing that lives at once overlaps, in any part of a batch."""
    wanted = {lowered.planes[name].value for name in lowered.wanted}
    scheduled = _schedule(lowered.steps)
    offsets, arena_bytes = plan_memory(_lives(scheduled, lowered))

    sizes = {name: plane.bytes for name, plane in lowered.memory.items()}
    touched: list[list[tuple[int, set[str]]]] = [[]]  # by each task of a phase, with its step
    for number, entry in enumerate(scheduled):
        for plane in entry.step.temporaries:
            sizes[plane.value] = max(plane.bytes, sizes.get(plane.value, 0))
        for task, waits in entry.tasks:
            if waits:
                touched.append([])
            values = {v.value for v in task.arguments.values() if isinstance(v, Place)}
            touched[-1].append((number, values - set(lowered.inputs)))

    # Memory of a part is another one in the next part, though it lies in the same place.
    phases: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for phase, tasks in enumerate(touched):
        for number, values in tasks:
            starts = scheduled[number].step.starts
            for value in values:
                depth = lowered.depths.get(value, len(starts) - 1)
                phases.setdefault((value, starts[: depth + 1]), []).append(phase)
                # In one phase nobody touches what another step writes.
                for other, others_values in tasks:
                    step = scheduled[other].step
                    written = {*step.writes, *(plane.value for plane in step.temporaries)}
                    assert other == number or value not in written & others_values, value
    for value in wanted:
        phases[value, (0,)].append(len(touched) - 1)
    assert {value for value, _ in phases} == set(offsets)

    lives = [
        (offsets[value], offsets[value] + sizes[value], min(during), max(during))
        for (value, _), during in phases.items()
    ]
    lives.sort()
    for (_, end, first, last), (start, _, first_2, last_2) in itertools.combinations(lives, 2):
        assert end <= start or last < first_2 or last_2 < first
    assert max(end for _, end, _, _ in lives) <= arena_bytes
    assert arena_bytes < sum(sizes[value] for value, _ in phases)  # something is shared


def test_a_large_batch_takes_little_more_memory() -> None:
    """What is in memory is of few pictures early on, and small later."""
    graph = build(ARCHITECTURES["resnet50"])
    one, many, more = (
        build_program(
            lowered_network(graph, (batch, 224, 224), detect()), code_store(detect())
        ).arena_bytes
        for batch in (1, 16, 64)
    )
    assert 2 * one < many < 8 * one
    assert more < 1.05 * many


@pytest.mark.parametrize("name", ["resnet50", "resnet20_cifar"])
def test_no_algorithm_depends_on_the_batch(target: Target, name: str) -> None:
    """Tiles and chunks may: they cut the work, not the sums."""
    graph = build(ARCHITECTURES[name])
    first, second = (
        {
            step.name: any(type(task.kernel).__name__ == "WinogradKernel" for task in step.tasks)
            for step in lowered_network(graph, (batch, 64, 64), target).steps
        }
        for batch in (1, 64)
    )
    assert first == second
    assert set(first.values()) == {False, True}


def test_scratch_and_table(target: Target) -> None:
    graph = build(ARCHITECTURES["resnet20_cifar"])
    lowered = lowered_network(graph, (1, 32, 32), target)
    program = build_program(lowered, code_store(target))
    tasks = [task for step in lowered.steps for task in step.tasks]
    assert len(program.table) == len(tasks) == sum(count for _, count in program.steps)
    assert (program.table[:, 2] == [task.chunks for task in tasks]).all()
    assert (program.table[:, 2] >= 1).all()
    assert program.table[0, 3] == 0
    assert program.scratch_bytes >= max(task.scratch for task in tasks)
    assert program.arena_bytes % 64 == program.scratch_bytes % 64 == 0
    assert program.memory(3) == program.arena_bytes + 3 * program.scratch_bytes
    assert all(offset % 64 == 0 for offset in program.offsets.values())
