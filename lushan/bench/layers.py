"""Where the time goes: the seconds of each step of a program, told as layers of the network.

An engine may fuse several nodes into one step, and names the step after a value that it computes.
The step is charged with that node and with the nodes before it that no step is named after.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node
from lushan.graph.verify import infer_types
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from lushan.recognizer import Recognizer


@dataclass(frozen=True)
class LayerTime:
    """One step: median milliseconds of a batch, billions of operations per second, share of all.

    ``operator`` joins the operators of a fused step with "+"; it is empty, as ``output_shape`` is,
    for a step that is no part of the network.
    """

    name: str
    operator: str
    output_shape: tuple[int, ...]
    milliseconds: float
    gflops: float
    share: float


def layer_times(recognizer: Recognizer, x: Array, runs: int) -> tuple[LayerTime, ...]:
    """Return the times of the steps for the batch x [N, H, W, 3], each the median of ``runs``."""
    samples: dict[str, list[float]] = {}
    for _ in range(runs + 1):
        for name, seconds in recognizer.profile(x):
            samples.setdefault(name, []).append(seconds)
    graph = build(recognizer.model.network)  # quantised values keep their names
    # The first run of all is for waking up.
    medians = {name: statistics.median(values[1:]) for name, values in samples.items()}
    total = sum(medians.values())
    n, height, width, _ = x.shape
    counts = {
        layer.name: layer.multiply_accumulates for layer in summarize(graph, height, width).layers
    }
    types = infer_types(graph, {graph.inputs[0].name: x.shape})
    parts = steps_of(graph, medians)
    times = []
    for name, seconds in medians.items():
        operations = 2 * n * sum(counts[node.name] for node in parts[name])
        shape = types[name].shape if name in types else ()
        times.append(
            LayerTime(
                name=name,
                operator="+".join(node.operator for node in parts[name]),
                output_shape=tuple(size or 0 for size in shape),
                milliseconds=1e3 * seconds,
                gflops=operations / seconds / 1e9,
                share=seconds / total,
            )
        )
    return tuple(times)


def steps_of(graph: Graph, names: Iterable[str]) -> Mapping[str, list[Node]]:
    """Return the nodes of each step called by a name in ``names``, in the order of the graph."""
    producers = graph.producers()
    owners = {producers[name].name: name for name in names if name in producers}
    steps: dict[str, list[Node]] = {name: [] for name in names}
    for node in reversed(graph.nodes):
        owner = owners.get(node.name)
        if owner is not None:
            steps[owner].insert(0, node)
            for name in node.inputs:
                if name in producers:
                    owners.setdefault(producers[name].name, owner)
    return steps
