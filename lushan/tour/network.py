"""Chapters 4, 7, 8, 9 and 13: weights, the whole network, its blocks, activations, training."""

from __future__ import annotations

from typing import Any

import numpy as np

from lushan.errors import UsageError
from lushan.explain import (
    Inspection,
    activation_statistics,
    gradient_norms,
    residual_blocks,
)
from lushan.models.resnet import ARCHITECTURES
from lushan.models.summary import NetworkSummary, summarize
from lushan.reference.convolution import convolution
from lushan.tour.encoding import blob, picture_url

_KERNEL_SIDE = 28  # pixels of the drawing of one kernel
_MOST_KERNELS = 128


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
        if layer.operator != "batch_norm"
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


def blocks_data(inspection: Inspection) -> list[dict[str, Any]]:
    """Return the residual blocks in numbers; none for a plain network."""
    return [
        {
            "node": block.node,
            "branch": block.branch_norm,
            "shortcut": block.shortcut_norm,
            "sum": block.sum_norm,
            "cosine": block.cosine,
            "share": block.branch_share,
        }
        for block in residual_blocks(inspection)
    ]


def activations_data(inspection: Inspection) -> list[dict[str, Any]]:
    """Return what came into every activation: histogram, blocked, silent, saturated."""
    return [
        {
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
        for found in activation_statistics(inspection)
    ]


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


def training_data(inspection: Inspection, best: int) -> dict[str, Any]:
    """Return what the model says of its training, and the gradient of this picture by block."""
    extra = inspection.model.config.extra
    evaluation = extra.get("evaluation")
    return {
        "evaluation": evaluation if _is_evaluation(evaluation) else None,
        "card": _card(inspection),
        "gradients": _gradients(inspection, best),
    }


def _is_evaluation(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), int) for key in ("images", "top1", "top5"))
        and value["images"] > 0
    )


def _card(inspection: Inspection) -> dict[str, Any]:
    """Return the keys of the training that a config.json of ``lushan train`` has."""
    extra = inspection.model.config.extra
    known = {key: extra[key] for key in ("training", "recipe") if isinstance(extra.get(key), dict)}
    return {
        str(key): value
        for part in known.values()
        for key, value in part.items()
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
    }


def _gradients(inspection: Inspection, best: int) -> list[dict[str, Any]]:
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
