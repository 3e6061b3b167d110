"""Counting a network: parameters, weighted layers, multiply-accumulates and memory.

Counts follow the field's custom: multiply-accumulates (MAC) of convolutions and fully connected
layers only; weighted layers without the projections of shortcuts; running statistics of batch
norm are not parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lushan.graph.ir import Graph, Node, TensorType
from lushan.graph.verify import infer_types


@dataclass(frozen=True)
class LayerSummary:
    """One node of a network at a given picture size."""

    name: str
    operator: str
    output_shape: tuple[int, ...]  # of one picture, without the batch
    parameters: int
    multiply_accumulates: int


@dataclass(frozen=True)
class NetworkSummary:
    """A network at a given picture size.

    ``weighted_layers`` counts convolutions and fully connected layers outside shortcuts,
    ``projections`` the convolutions in shortcuts. ``weight_bytes`` is all weights in float32,
    ``peak_activation_bytes`` the most that values alive at the same time take for one picture.
    """

    height: int
    width: int
    layers: tuple[LayerSummary, ...]
    weighted_layers: int
    projections: int
    parameters: int
    multiply_accumulates: int
    weight_bytes: int
    peak_activation_bytes: int


def summarize(graph: Graph, height: int, width: int) -> NetworkSummary:
    """Return the counts of ``graph`` for one RGB picture of ``height`` × ``width`` pixels."""
    source = graph.inputs[0].name
    types = infer_types(graph, {source: (1, height, width, 3)})
    layers = tuple(_layer(node, types) for node in graph.nodes)
    weighted = [layer for layer in layers if layer.operator in ("convolution", "linear")]
    projections = [layer for layer in weighted if ".downsample." in layer.name]
    weights = sum(_elements(types[value.name]) for value in graph.parameters)
    return NetworkSummary(
        height=height,
        width=width,
        layers=layers,
        weighted_layers=len(weighted) - len(projections),
        projections=len(projections),
        parameters=sum(layer.parameters for layer in layers),
        multiply_accumulates=sum(layer.multiply_accumulates for layer in layers),
        weight_bytes=4 * weights,
        peak_activation_bytes=4 * _peak(graph, types),
    )


def _layer(node: Node, types: dict[str, TensorType]) -> LayerSummary:
    output = types[node.name]
    parameters = sum(_elements(types[name]) for name in _learned(node))
    macs = 0
    if node.operator in ("convolution", "linear"):
        weight = types[node.inputs[1]]  # [OC, KH, KW, IC] or [OC, IC]: one MAC per output and term
        macs = _elements(output) * _elements(weight) // _elements_of(weight.shape[:1])
    return LayerSummary(
        node.name, node.operator, tuple(n or 0 for n in output.shape[1:]), parameters, macs
    )


def _learned(node: Node) -> tuple[str, ...]:
    """Return the inputs of ``node`` that are learned parameters."""
    if node.operator in ("convolution", "linear", "prelu"):
        return node.inputs[1:]
    return node.inputs[1:3] if node.operator == "batch_norm" else ()


def _elements(type_: TensorType) -> int:
    return _elements_of(type_.shape)


def _elements_of(shape: tuple[int | None, ...]) -> int:
    return math.prod(size or 0 for size in shape)


def _peak(graph: Graph, types: dict[str, TensorType]) -> int:
    """Return the most elements that are alive at once, in-place work not counted."""
    parameters = {value.name for value in graph.parameters}
    last = {
        name: index
        for index, node in enumerate(graph.nodes)
        for name in (*node.inputs, *node.outputs)
        if name not in parameters
    }
    last.update((name, len(graph.nodes)) for name in graph.outputs)
    alive = sum(_elements(types[value.name]) for value in graph.inputs)
    peak = alive
    for index, node in enumerate(graph.nodes):
        alive += sum(_elements(types[name]) for name in node.outputs)
        peak = max(peak, alive)
        ends = dict.fromkeys((*node.inputs, *node.outputs))
        alive -= sum(_elements(types[name]) for name in ends if last.get(name) == index)
    return peak
