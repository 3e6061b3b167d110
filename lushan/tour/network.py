"""Chapters 4, 7, 8, 9 and 13: weights, the whole network, its blocks, activations, training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from lushan.errors import UsageError
from lushan.explain import (
    ActivationStatistics,
    Inspection,
    ResidualBlock,
    activation_statistics,
    gradient_norms,
    residual_blocks,
)
from lushan.explain.activations import ACTIVATIONS
from lushan.graph.ir import Graph, Node
from lushan.models.resnet import ARCHITECTURES
from lushan.models.summary import NetworkSummary, summarize
from lushan.reference.convolution import convolution
from lushan.tour.encoding import blob, picture_url

_KERNEL_SIDE = 28  # pixels of the drawing of one kernel
_MOST_KERNELS = 128
_TOGETHER = 4  # blocks whose values are held at a time


def weights_data(inspection: Inspection) -> dict[str, Any]:
    """Return the stem's kernels as they are in the file, drawn, and how many weights there are."""
    name = next(node.inputs[1] for node in inspection.graph.nodes if node.operator == "convolution")
    kernels = np.asarray(inspection.model.weights[name])  # [OC, KH, KW, IC]
    counts, edges = np.histogram(kernels, 48)
    return {
        "node": name,
        "shape": list(kernels.shape),
        "sheet": picture_url(_sheet(kernels[:_MOST_KERNELS])),
        "counts": counts.tolist(),
        "edges": edges.tolist(),
    }


def _sheet(kernels: Any) -> Any:
    """Return kernels [K, KH, KW, 3] side by side as colours: grey is 0, each has its own scale."""
    count, height, width, _ = kernels.shape
    factor = max(1, _KERNEL_SIDE // max(height, width))
    columns = 16 if count >= 16 else count
    rows = -(-count // columns)
    tall, wide = height * factor + 2, width * factor + 2
    sheet = np.full((rows * tall, columns * wide, 3), 127, np.uint8)
    for place, kernel in enumerate(kernels):
        most = float(np.abs(kernel).max()) or 1.0
        tile = np.rint(127.5 + 127.5 * kernel / most).astype(np.uint8)
        tile = tile.repeat(factor, axis=0).repeat(factor, axis=1)
        top, left = place // columns * tall + 1, place % columns * wide + 1
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def network_data(inspection: Inspection) -> dict[str, Any]:
    """Return the counts of the network and what each of its layers costs."""
    counts = summarize(inspection.graph, *inspection.size)
    network = inspection.model.network
    layers = [
        [layer.name, layer.operator, list(layer.output_shape), layer.parameters,
         layer.multiply_accumulates]
        for layer in counts.layers
    ]  # fmt: skip
    return {
        "architecture": inspection.model.config.architecture,
        "published": inspection.model.config.architecture in ARCHITECTURES,
        "block": network.block,
        "depths": list(network.depths),
        "activation": network.activation,
        "shortcut": network.shortcut,
        "batch_norm": network.batch_norm,
        "weighted_layers": counts.weighted_layers,
        "projections": counts.projections,
        "parameters": counts.parameters,
        "multiply_accumulates": counts.multiply_accumulates,
        "weight_bytes": counts.weight_bytes,
        "classifier_parameters": _classifier(counts),
        "classes": network.classes,
        "layers": layers,
        "dense_stem": _dense_stem(inspection),
    }


def _classifier(counts: NetworkSummary) -> int:
    return sum(layer.parameters for layer in counts.layers if layer.operator == "linear")


def _dense_stem(inspection: Inspection) -> int:
    """Return how many weights a fully connected layer in place of the stem would have."""
    first = next(node for node in inspection.graph.nodes if node.operator == "convolution")
    pixels = inspection.input[0].size
    height, width, channels = inspection.shape(first.name)
    return int(pixels) * height * width * channels


def walk(inspection: Inspection, retained: Collection[str]) -> dict[str, Any]:
    """Return the residual blocks and activations in numbers, looked at from the input on.

    A few blocks at a time, for their values are large; ``retained`` ones, and what the gradient
    will need, stay remembered.
    """
    blocks: list[dict[str, Any]] = []
    activations: list[dict[str, Any]] = []
    stay = {*retained, *(n.name for n in inspection.graph.nodes if n.operator in ACTIVATIONS)}
    for nodes in _portions(inspection.graph):
        names = [name for node in nodes for name in node.outputs]
        sums = {node.name for node in nodes if node.operator == "add"}
        looked_at = _looked_at(nodes)
        inspection.values(
            dict.fromkeys(
                [name for node in nodes if node.name in sums for name in (*node.inputs, node.name)]
                + [node.inputs[0] for node in nodes if node.name in looked_at]
                + [name for name in names if name in stay]
            )
        )
        blocks += map(_block, residual_blocks(inspection, sums))
        activations += map(_activation, activation_statistics(inspection, looked_at))
        inspection.forget(but=stay)
    return {"blocks": blocks, "activations": activations}


def _portions(graph: Graph) -> Iterator[list[Node]]:
    """Yield the nodes in order, a few blocks of one stage at a time."""

    def place(node: Node) -> tuple[str, int]:
        stage, _, rest = node.name.partition(".")
        return (stage, int(rest.partition(".")[0]) // _TOGETHER) if rest else ("", 0)

    for _, nodes in groupby(graph.nodes, place):
        yield list(nodes)


def _looked_at(nodes: Sequence[Node]) -> set[str]:
    """Return the activations that are shown: after the stem and every sum; without sums, all.

    To see what comes into the others an engine would have to compile other kernels.
    """
    activations = [node for node in nodes if node.operator in ACTIVATIONS]
    sums = {node.name for node in nodes if node.operator == "add"}
    return {node.name for node in activations if not sums or node.inputs[0] in sums}


def _block(block: ResidualBlock) -> dict[str, Any]:
    return {
        "node": block.node,
        "branch": block.branch_norm,
        "shortcut": block.shortcut_norm,
        "sum": block.sum_norm,
        "cosine": block.cosine,
        "share": block.branch_share,
    }


def _activation(found: ActivationStatistics) -> dict[str, Any]:
    return {
        "node": found.node,
        "operator": found.operator,
        "elements": found.elements,
        "channels": found.channels,
        "blocked": found.blocked,
        "silent": len(found.silent),
        "saturated": found.saturated,
        "counts": found.counts.tolist(),
        "low": float(found.edges[0]),
        "high": float(found.edges[-1]),
    }


def collapse_data(inspection: Inspection) -> dict[str, Any] | None:
    """Two convolutions of this network, without anything between them, against one (chapter 9).

    Two 3×3 kernels from the network's own weights slide over the picture's first channel, one after
    the other; then the one 5×5 kernel that both make, once. None for a network with no 3×3 kernel.
    """
    names = [node.inputs[1] for node in inspection.graph.nodes if node.operator == "convolution"]
    kernels = []
    for name in names:
        shape = inspection.model.weights[name].shape
        if shape[1:3] == (3, 3):
            kernels.append(np.asarray(inspection.model.weights[name][0, :, :, 0], np.float64))
        if len(kernels) == 2:
            break
    if len(kernels) < 2:
        return None
    first, second = kernels
    both = np.zeros((5, 5))
    for row in range(3):
        for column in range(3):
            both[row : row + 3, column : column + 3] += second[row, column] * first
    x = inspection.input[..., :1].astype(np.float64)
    if min(x.shape[1:3]) < 5:
        return None
    once = convolution(x, both[None, :, :, None])
    step = convolution(x, first[None, :, :, None])
    twice = convolution(step, second[None, :, :, None])
    bent = convolution(np.maximum(step, 0), second[None, :, :, None])
    scale = float(np.abs(once).max()) or 1.0
    return {
        "first": blob(first.astype(np.float32)),
        "second": blob(second.astype(np.float32)),
        "both": blob(both.astype(np.float32)),
        "difference": float(np.abs(twice - once).max()) / scale,
        "with_relu": float(np.abs(bent - once).max()) / scale,
    }


def gradients_data(inspection: Inspection, best: int) -> list[dict[str, Any]]:
    """Return the norm of the loss's gradient at the end of each block, from the picture up."""
    ends: dict[str, str] = {}
    for name in inspection.nodes:
        if name.count(".") >= 2:
            ends[".".join(name.split(".")[:2])] = name
    nodes = ["relu", *ends.values()]
    try:
        norms = gradient_norms(inspection, best, nodes)
    except UsageError:
        return []
    return [{"node": name, "norm": norms[name]} for name in ("input", *nodes) if name in norms]
