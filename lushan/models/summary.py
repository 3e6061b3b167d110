"""Counting a network: parameters, weighted layers, multiply-accumulates and memory.

Counts follow the field's custom: multiply-accumulates (MAC) of convolutions and fully connected
layers only; weighted layers without the projections of shortcuts; running statistics of batch
norm are not parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from lushan.graph.ir import Graph, Node, TensorType
from lushan.graph.liveness import last_uses
from lushan.graph.verify import infer_types
from lushan.record import record


@record
class LayerSummary:
    """One node of a network at a given picture size."""

    name: str
    operator: str
    output_shape: tuple[int, ...]  # of one picture, without the batch
    parameters: int
    multiply_accumulates: int


@record
class NetworkSummary:
    """A network at a given picture size.

    ``weighted_layers`` counts convolutions and fully connected layers outside shortcuts,
    ``projections`` the convolutions of which a shortcut is made. ``weight_bytes`` is all weights,
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
    projections = _projections(graph)
    return NetworkSummary(
        height=height,
        width=width,
        layers=layers,
        weighted_layers=len(weighted) - len(projections),
        projections=len(projections),
        parameters=sum(layer.parameters for layer in layers),
        multiply_accumulates=sum(layer.multiply_accumulates for layer in layers),
        weight_bytes=memory_bytes(value.type for value in graph.parameters),
        peak_activation_bytes=peak_activation_bytes(graph, types),
    )


def _projections(graph: Graph) -> set[str]:
    """Return the convolutions that feed the shortcut of a sum and nothing else.

    The shortcut is the second input of ``add`` (``reference.residual``). A batch norm may stand
    between; a convolution that something else reads too is a layer of the network.
    """
    producers, consumers = graph.producers(), graph.consumers()
    found: set[str] = set()
    for node in graph.nodes:
        source = producers.get(node.inputs[1]) if node.operator == "add" else None
        if source is not None and source.operator == "batch_norm":
            alone = len(consumers[source.name]) == 1
            source = producers.get(source.inputs[0]) if alone else None
        if (
            source is not None
            and source.operator == "convolution"
            and len(consumers[source.name]) == 1
        ):
            found.add(source.name)
    return found


# The layers that are counted, with the input that is their weight.
_WEIGHT = {"convolution": 1, "linear": 1, "quantized_convolution": 2, "quantized_linear": 2}


def _layer(node: Node, types: dict[str, TensorType]) -> LayerSummary:
    output = types[node.name]
    parameters = sum(_elements(types[name]) for name in _learned(node))
    macs = 0
    place = _WEIGHT.get(node.operator)
    if place is not None:
        weight = types[node.inputs[place]]  # [OC, KH, KW, IC] or [OC, IC]: a MAC per output, term
        macs = _elements(output) * _elements(weight) // _elements_of(weight.shape[:1])
    return LayerSummary(
        node.name, node.operator, tuple(n or 0 for n in output.shape[1:]), parameters, macs
    )


def _learned(node: Node) -> tuple[str, ...]:
    """Return the inputs of ``node`` that are learned parameters."""
    if node.operator in ("convolution", "transposed_convolution", "linear", "prelu"):
        return node.inputs[1:]
    if node.operator in ("quantized_convolution", "quantized_linear"):
        return node.inputs[2], node.inputs[4]
    return node.inputs[1:3] if node.operator in ("batch_norm", "batch_norm_training") else ()


def _elements(type_: TensorType) -> int:
    return _elements_of(type_.shape)


def _elements_of(shape: tuple[int | None, ...]) -> int:
    return math.prod(size or 0 for size in shape)


def memory_bytes(types: Iterable[TensorType]) -> int:
    """Return the memory of tensors of the given types, all sizes known."""
    return sum(_elements(type_) * np.dtype(type_.dtype).itemsize for type_ in types)


def peak_activation_bytes(graph: Graph, types: Mapping[str, TensorType]) -> int:
    """Return the most memory that is in use at once, in-place work not counted.

    ``types`` are those of every value, all sizes known.
    """

    def size(names: Iterable[str]) -> int:
        return memory_bytes(types[name] for name in names)

    alive = peak = size(value.name for value in graph.inputs)
    for node, ends in zip(graph.nodes, last_uses(graph), strict=True):
        alive += size(node.outputs)
        peak = max(peak, alive)
        alive -= size(ends)
    return peak
