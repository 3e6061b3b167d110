"""Chapters 5, 6 and 10: the maps that can be clicked, with all that their arithmetic needs.

For every layer shown, the page gets its strongest channels as float32 numbers, exactly the
engine's, with the recipe of these channels and the value they are computed from. Of large maps only
a part travels, around the strongest place: ``crop`` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lushan.explain import (
    Inspection,
    Recipe,
    deconvnet,
    pooling_switches,
    receptive_field,
    recipe,
    strongest_channels,
)
from lushan.explain.drawing import colours, pattern_picture
from lushan.explain.features import ActiveChannel
from lushan.models.resnet_graph import INPUT
from lushan.tour.encoding import Pixels, blob, picture_url

STEM = "relu"
CHANNELS = 8  # of each layer
MOST_STAGES = 6
_MOST_CELLS = 112 * 112  # of one map
_MOST_BYTES = 56 * 56 * 64 * 4  # of the value that a layer is computed from
_USUAL_PIXELS = 256 * 256  # of larger pictures less travels
_OVERVIEW = 96  # pixels of a map that travels in part
_PATTERN = 112  # pixels of the longer side of a pattern: it is only looked at

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are not in it


@dataclass(frozen=True)
class Layer:
    """A layer that is shown: its node, the channels, and where its numbers come from."""

    node: str
    channels: tuple[ActiveChannel, ...]
    recipe: Recipe


def shown_nodes(inspection: Inspection) -> list[str]:
    """Return the stem's activation and the last node of each stage, at most ``MOST_STAGES``."""
    ends: dict[str, str] = {}
    for name in inspection.nodes:
        stage, dot, _ = name.partition(".")
        if dot:
            ends[stage] = name
    stages = list(ends.values())
    if len(stages) > MOST_STAGES:
        picked = np.linspace(0, len(stages) - 1, MOST_STAGES).round().astype(int)
        stages = [stages[place] for place in picked]
    return [STEM, *stages]


def layers_of(inspection: Inspection, nodes: Sequence[str], voters: Sequence[int]) -> list[Layer]:
    """Return the layers with their strongest channels; the last one also has the ``voters``."""
    layers = []
    for node in nodes:
        chosen = strongest_channels(inspection, node, CHANNELS)
        if node == nodes[-1]:
            known = {channel.channel for channel in chosen}
            everything = strongest_channels(inspection, node, inspection.shape(node)[2])
            by_number = {channel.channel: channel for channel in everything}
            chosen += [by_number[voter] for voter in voters if voter not in known]
        numbers = [channel.channel for channel in chosen]
        layers.append(Layer(node, tuple(chosen), recipe(inspection, node, numbers)))
    return layers


def layer_data(inspection: Inspection, layer: Layer) -> dict[str, Any]:
    """Return one layer for the page: maps, patterns, and what their arithmetic needs."""
    maps = inspection.value(layer.node)
    numbers = list(layer.recipe.channels)
    crop = _crop(inspection, layer)
    top, left, bottom, right = crop
    shown = maps[top:bottom, left:right, numbers]
    field = receptive_field(inspection.graph, layer.node)
    return {
        "node": layer.node,
        "shape": list(maps.shape),
        "crop": list(crop),
        "field": [field.height, field.width],
        "stride": list(field.stride or (0, 0)),
        "channels": [
            {
                "channel": channel.channel,
                "peak": channel.peak,
                "row": channel.row,
                "column": channel.column,
                "mean": channel.mean,
                "box": list(field.box(channel.row, channel.column, inspection.size)),
            }
            for channel in layer.channels
        ],
        "maps": blob(np.moveaxis(shown, 2, 0)),
        "overviews": _overviews(maps, numbers) if shown.shape[:2] != maps.shape[:2] else None,
        "recipe": _recipe_data(inspection, layer.recipe, crop),
    }


def _recipe_data(inspection: Inspection, found: Recipe, crop: Box) -> dict[str, Any]:
    slide = found.slide
    box = _source_box(inspection, found, crop)
    source: dict[str, Any] = {
        "node": found.source,
        "shape": list(inspection.value(found.source).shape),
        "crop": list(box),
        "values": None,  # the picture's own numbers are there anyway
    }
    if found.source != INPUT:
        top, left, bottom, right = box
        source["values"] = blob(inspection.value(found.source)[top:bottom, left:right])
    top, left, bottom, right = crop
    shortcut = None
    if found.shortcut is not None:
        added = inspection.value(found.shortcut)[top:bottom, left:right, list(found.channels)]
        shortcut = {"node": found.shortcut, "maps": blob(np.moveaxis(added, 2, 0))}
    return {
        "source": source,
        "stride": list(slide.stride),
        "padding": [slide.padding[0], slide.padding[2]],
        "dilation": list(slide.dilation),
        "kernels": blob(found.kernels),
        "first": list(found.first),
        "biases": [float(bias) for bias in found.biases],
        "slopes": [float(slope) for slope in found.slopes],
        "activation": found.activation,
        "separate": found.separate,
        "shortcut": shortcut,
    }


def _crop(inspection: Inspection, layer: Layer) -> Box:
    """Return the part of the maps that travels, around the strongest place of all."""
    height, width, _ = inspection.shape(layer.node)
    rows, columns = height, width
    cells = float(_MOST_CELLS)
    if layer.recipe.source != INPUT:
        channels = inspection.shape(layer.recipe.source)[2]
        pixels = inspection.size[0] * inspection.size[1]
        allowed = _MOST_BYTES * min(1.0, _USUAL_PIXELS / pixels) / (4 * channels)
        down, across = layer.recipe.slide.stride
        cells = min(cells, max(64.0, allowed / (down * across)))
    if rows * columns > cells:
        factor = (cells / (rows * columns)) ** 0.5
        rows, columns = max(1, int(rows * factor)), max(1, int(columns * factor))
    strongest = layer.channels[0]
    top = min(max(0, strongest.row - rows // 2), height - rows)
    left = min(max(0, strongest.column - columns // 2), width - columns)
    return top, left, top + rows, left + columns


def _source_box(inspection: Inspection, found: Recipe, crop: Box) -> Box:
    """Return the part of the source that the windows of ``crop`` touch."""
    height, width = inspection.value(found.source).shape[:2]
    top, left, bottom, right = crop
    (down, across), (above, _, before, _) = found.slide.stride, found.slide.padding
    tall, wide = found.slide.effective_kernel
    return (
        max(0, top * down - above),
        max(0, left * across - before),
        min(height, (bottom - 1) * down - above + tall),
        min(width, (right - 1) * across - before + wide),
    )


def _overviews(maps: Any, channels: Sequence[int]) -> list[str]:
    """Return maps that travel in part as small pictures of the whole."""
    step = max(1, -(-max(maps.shape[:2]) // _OVERVIEW))
    pictures = []
    for channel in channels:
        plane = maps[::step, ::step, channel]
        least, most = float(plane.min()), float(plane.max())
        pictures.append(picture_url(colours((plane - least) / ((most - least) or 1))))
    return pictures


def patterns(inspection: Inspection, layer: Layer) -> list[str]:
    """Return the deconvnet patterns of the strongest channels, cut to what they see, as pictures.

    Raises UsageError for a network with another activation than ReLU.
    """
    found = deconvnet(
        inspection, layer.node, [channel.channel for channel in layer.channels[:CHANNELS]]
    )
    pictures = []
    for projection in found:
        top, left, bottom, right = projection.box
        picture = pattern_picture(projection.pattern[top:bottom, left:right], least=1)
        pictures.append(picture_url(_shrunk(picture)))
    return pictures


def _shrunk(pixels: Pixels) -> Pixels:
    step = max(pixels.shape[:2]) / _PATTERN
    if step <= 1:
        return pixels
    from PIL import Image

    size = (max(1, round(pixels.shape[1] / step)), max(1, round(pixels.shape[0] / step)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def pooling_data(inspection: Inspection, stem: Layer) -> dict[str, Any] | None:
    """Return the max pooling after the stem on the stem's channels; None where there is none.

    "taps" are the switches as places in the window, row by row: uint8 [K, h, w].
    """
    nodes = [
        node
        for node in inspection.graph.nodes
        if node.operator == "max_pooling" and node.inputs[0] == stem.node
    ]
    if not nodes:
        return None
    node = nodes[0]
    channels = [channel.channel for channel in stem.channels]
    options: dict[str, Any] = node.options
    (tall, wide), (down, across) = options["kernel"], options["stride"]
    above, _, before, _ = options["padding"]
    pooled = inspection.value(node.name)
    switches = pooling_switches(inspection, node.name)[..., channels]
    width = inspection.shape(stem.node)[1]
    rows = switches // width - (np.arange(pooled.shape[0]) * down - above)[:, None, None]
    columns = switches % width - (np.arange(pooled.shape[1]) * across - before)[:, None]
    top, left, bottom, right = _pooled_crop(_crop(inspection, stem), options, pooled.shape)
    part = (slice(top, bottom), slice(left, right))
    return {
        "node": node.name,
        "source": stem.node,
        "shape": list(pooled.shape),
        "crop": [top, left, bottom, right],
        "kernel": [tall, wide],
        "stride": [down, across],
        "padding": [above, before],
        "maps": blob(np.moveaxis(pooled[..., channels][part], 2, 0)),
        "taps": blob(np.moveaxis((rows * wide + columns).astype(np.uint8)[part], 2, 0)),
        "moved": _moved(inspection.value(stem.node), pooled),
    }


def _pooled_crop(crop: Box, options: dict[str, Any], shape: tuple[int, ...]) -> Box:
    """Return the pooled places whose windows lie on ``crop`` of what is pooled."""
    (tall, wide), (down, across) = options["kernel"], options["stride"]
    above, _, before, _ = options["padding"]
    top, left, bottom, right = crop
    first_row = 0 if top == 0 else -(-(top + above) // down)
    first_column = 0 if left == 0 else -(-(left + before) // across)
    last_row = min(shape[0], (bottom + above - 1) // down + 1)
    last_column = min(shape[1], (right + before - 1) // across + 1)
    if bottom < shape[0] * down:
        last_row = min(last_row, (bottom + above - tall) // down + 1)
    if right < shape[1] * across:
        last_column = min(last_column, (right + before - wide) // across + 1)
    return first_row, first_column, max(first_row + 1, last_row), max(first_column + 1, last_column)


def _moved(before: Any, after: Any) -> list[float]:
    """Return how much the maps change when they move by one pixel, before and after pooling.

    Pooled maps are pooled again from the moved ones: relative change, in the Euclidean norm.
    """
    from lushan.reference.pooling import max_pooling

    few = np.ascontiguousarray(before[None, ..., :CHANNELS])
    shifted = np.roll(few, 1, axis=2)
    pooled, again = (max_pooling(x, 3, stride=2, padding=1)[0] for x in (few, shifted))
    return [_change(few, shifted), _change(pooled, again)]


def _change(x: Any, y: Any) -> float:
    norm = float(np.linalg.norm(x))
    return float(np.linalg.norm(x - y)) / norm if norm else 0.0


def wanted_values(inspection: Inspection, nodes: Iterable[str]) -> list[str]:
    """Return every value that showing ``nodes`` reads: to be asked for in one run."""
    wanted: list[str] = []
    for node in nodes:
        wanted += recipe(inspection, node, [0]).values
    pooled = [n.name for n in inspection.graph.nodes if n.operator == "max_pooling"]
    return list(dict.fromkeys((*wanted, *pooled, inspection.last_maps)))
