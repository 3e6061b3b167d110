"""Lowering: every operator has a rule, and kernels know nothing of height, width and batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from lushan import passes
from lushan.cpu import tiling
from lushan.cpu.code import code_store
from lushan.cpu.lower import _RULES, Options, lower
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target
from lushan.cpu.task import Kernel
from lushan.graph.interpret import MEANINGS
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from support.operator_graphs import OPERATOR_GRAPHS

# What may depend on the size of the picture, because it is chosen among few.
CHOSEN = {"tile", "outputs", "shared", "prefetch"}


def kernels(target: Target, graph: Graph, shapes: Iterable[tuple[int, int, int]]) -> set[Kernel]:
    """Return the kernels for pictures of (batch, height, width), one after another."""
    weights = {value.name: np.ones(value.type.shape, np.float32) for value in graph.parameters}
    graph, weights = passes.apply(graph, weights)
    packer = Packer(weights, target, code_store(target))
    (value,) = graph.inputs
    return {
        task.kernel
        for shape in shapes
        for step in lower(
            graph, infer_types(graph, {value.name: (*shape, 3)}), packer, target, Options(2)
        ).steps
        for task in step.tasks
    }


def layer(kernel: Kernel) -> tuple[Any, ...]:
    """Return a kernel without what was chosen."""
    described: Any = kernel
    known = [(f.name, getattr(kernel, f.name)) for f in fields(described) if f.name not in CHOSEN]
    return type(kernel), *known


def random_shapes(count: int, largest: int) -> list[tuple[int, int, int]]:
    random = np.random.default_rng(0)
    return [
        (int(random.integers(1, 9)), *map(int, random.integers(32, largest, 2)))
        for _ in range(count)
    ]


def test_every_operator_has_a_rule_a_meaning_and_a_graph() -> None:
    used = {node.operator for graph in OPERATOR_GRAPHS.values() for node in graph.nodes}
    assert set(_RULES) == used | {"fused_convolution"}  # which passes make
    assert set(_RULES) <= set(MEANINGS)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_endless_sizes_need_few_kernels(target: Target, name: str) -> None:
    graph = build(ARCHITECTURES[name])
    found = kernels(target, graph, random_shapes(150, 600))
    # Three sizes have every layer in every form: direct, and Winograd's with both kinds of tiles.
    some = kernels(target, graph, [(1, 600, 600), (1, 224, 224), (1, 32, 32)])
    assert {layer(kernel) for kernel in found} <= {layer(kernel) for kernel in some}
    tables = (tiling._PIXELS[target.registers], tiling._WINOGRAD_ROWS[target.registers])
    most = max(len(pixels) for table in tables for pixels in table.values())
    for kind in {layer(kernel) for kernel in found}:
        same = [kernel for kernel in found if layer(kernel) == kind]
        assert len(same) <= most * 2 ** (len(CHOSEN) - 1)
    assert len(found) < 250  # measured: 60 to 180


@pytest.mark.parametrize("name", OPERATOR_GRAPHS)
def test_a_graph_has_the_same_kernels_at_any_size(target: Target, name: str) -> None:
    graph = OPERATOR_GRAPHS[name]
    first, second = (
        {layer(kernel) for kernel in kernels(target, graph, [shape])}
        for shape in ((1, 40, 48), (5, 61, 43))
    )
    assert first == second
