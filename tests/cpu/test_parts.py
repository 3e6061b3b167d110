"""Depth first: parts of a batch, each node once for each picture, and the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lushan.cpu import executor, parts
from lushan.cpu.executor import CpuProgram
from lushan.cpu.parts import PART_BYTES, Part, Parts, depth_first
from lushan.cpu.target import detect
from lushan.graph.ir import Graph
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from support.lowering import lowered_for
from support.quantized import quantized
from support.random_graphs import random_weights

MIB = 2**20


def test_early_layers_take_few_pictures_and_late_ones_many() -> None:
    found = depth_first([4 * MIB, 4 * MIB, MIB, MIB // 2, 0], [1] * 5, 16)
    assert found == Parts(ends=(5, 3, 2, 2), counts=(16, 8, 4, 2))
    assert [found.depth(node) for node in range(5)] == [3, 3, 1, 0, 0]
    parts_with_nodes = [part for part in found if part.nodes]
    pairs = [Part(range(2), 2, (0, 0, start // 4 * 4, start)) for start in (0, 2, 4, 6)]
    assert parts_with_nodes[:5] == [*pairs, Part(range(2, 3), 8, (0, 0))]
    assert parts_with_nodes[-1] == Part(range(3, 5), 16, (0,))
    assert len(parts_with_nodes) == 2 * 5 + 1


@pytest.mark.parametrize("batch", [1, 16])
def test_what_fits_is_not_divided(batch: int) -> None:
    assert list(depth_first([PART_BYTES // batch] * 3, [1] * 3, batch)) == [
        Part(range(3), batch, (0,))
    ]


def test_parts_end_where_little_is_left() -> None:
    """A block's inner values, and the shortcut beside them, are not there after it."""
    found = depth_first([4 * MIB, 1, 1, 1], [5, 4, 3, 4], 3)
    assert found.ends == (4, 3)


@given(
    nodes=st.lists(st.tuples(st.integers(0, 3 * PART_BYTES), st.integers(0, 9)), max_size=6),
    batch=st.integers(1, 40),
)
def test_every_node_runs_once_for_every_picture(nodes: list[tuple[int, int]], batch: int) -> None:
    done = np.zeros(batch, int)  # of each picture, how many nodes
    moved = [bytes_ for bytes_, _ in nodes]
    found = depth_first(moved, [left for _, left in nodes], batch)
    for part in found:
        start = part.starts[-1]
        assert len(part.starts) == part.depth + 1
        assert part.count <= found.counts[part.depth]
        assert (done[start : start + part.count] == part.nodes.start).all()
        done[start : start + part.count] = part.nodes.stop
        for node in part.nodes:
            assert found.depth(node) == part.depth
            assert part.count == 1 or part.count * moved[node] <= PART_BYTES
    assert (done == len(nodes)).all()


def network(name: str) -> tuple[Graph, dict[str, Any]]:
    graph = build(ARCHITECTURES[name.removesuffix(" int8")])
    weights = random_weights(graph, seed=3)
    if not name.endswith("int8"):
        return graph, weights
    x = np.random.default_rng(1).standard_normal((1, 64, 64, 3)).astype(np.float32)
    graph, lazy = quantized(graph, weights, x)
    return graph, {key: lazy[key] for key in lazy}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18 int8", "resnet50 int8"])
@pytest.mark.parametrize("kept", [False, True], ids=["scores", "some kept"])
def test_the_bits_are_those_of_a_picture_alone(
    name: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was in memory, however small the parts are."""
    graph, weights = network(name)
    keep = [n.name for n in graph.nodes if "layer2" in n.name] if kept else []
    x = np.random.default_rng(5).standard_normal((11, 64, 64, 3), np.float32)
    borrow = CpuProgram._borrow

    def filled(self: CpuProgram, size: int) -> np.ndarray:
        arena = borrow(self, size)
        arena[:] = 255
        return arena

    monkeypatch.setattr(CpuProgram, "_borrow", filled)
    alone = executor.compile(graph, weights, keep=keep, threads=2)
    expected = [alone({INPUT: x[i : i + 1]}) for i in range(len(x))]
    steps = set()
    for part_bytes in (1, 2**18, 2**20, 2**30):
        monkeypatch.setattr(parts, "PART_BYTES", part_bytes)
        program = executor.compile(graph, weights, keep=keep, threads=2)
        for values_of in (program, program):  # the second time, memory is what the first one left
            for value, values in values_of({INPUT: x}).items():
                for i, answer in enumerate(expected):
                    assert values[i].tobytes() == answer[value][0].tobytes(), (value, i)
        plan = program._plan((x.shape,))
        steps.add(len(plan.steps))
        names = [step for step, _ in program.profile({INPUT: x})]
        assert names == list(dict.fromkeys(step for step, _ in plan.steps))
        program.close()
    assert len(steps) >= 3  # not all were the same division
    alone.close()


def test_parts_of_one_depth_may_differ_in_more_than_size() -> None:
    """27 pictures are 14 and 13, whose 3×3 convolutions transform their input in other ways."""
    graph, weights = network("resnet50")
    program = executor.compile(graph, weights, threads=2)
    x = np.random.default_rng(5).standard_normal((27, 128, 128, 3), np.float32)
    (together,) = program({INPUT: x}).values()
    forms = {
        tuple(task.waits for task in step.tasks)
        for step in lowered_for(detect(), graph, weights, {INPUT: x.shape}, in_parts=True).steps
        if step.name == "layer3.1.relu2"
    }
    assert len(forms) == 2 or detect().level != "avx512"
    for i in range(27):
        (alone,) = program({INPUT: x[i : i + 1]}).values()
        assert together[i].tobytes() == alone[0].tobytes(), i
    program.close()
