"""What excites a channel, projected back to pixels: deconvnet, and guided back-propagation.

One activation is taken out of a layer, and sent back through the network to the picture
(``way_back.py``). What arrives are not pixels but a pattern of light and shade, in units of the
normalised input: the structure that this activation answered to.

Deconvnet (Zeiler & Fergus 2013, "Visualizing and understanding convolutional networks") starts with
the activation itself; guided back-propagation (Springenberg et al. 2014, "Striving for simplicity")
is a gradient, and starts with 1. Where windows of max pooling overlap, a pixel that won several of
them gets the sum of what they send back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from lushan.engines import ENGINES
from lushan.explain.inspection import FloatArray, Inspection
from lushan.explain.receptive_fields import Box, receptive_field
from lushan.explain.way_back import SIGNAL, way_back
from lushan.models.resnet_graph import INPUT

Place: TypeAlias = "tuple[int, int] | Literal['strongest', 'all']"

_BATCH_BYTES = 128 * 2**20  # of signals on their way, with the values recorded for them


@dataclass(frozen=True)
class Projection:
    """What one channel of a node sent back to the picture.

    ``row`` and ``column`` are where the activation was taken, None for a whole map and for a node
    without maps. ``pattern`` is float32 [H, W, 3]; it is 0 outside ``box``, the receptive field
    (top, left, bottom, right; the last two excluded).
    """

    node: str
    channel: int
    row: int | None
    column: int | None
    activation: float  # there; of a whole map the greatest
    pattern: FloatArray
    box: Box


def deconvnet(
    inspection: Inspection, node: str, channels: Sequence[int], *, at: Place = "strongest"
) -> list[Projection]:
    """Return the deconvnet pattern of each of ``channels`` of ``node``.

    ``at`` is the one activation to take: (row, column), or "strongest", that with the greatest
    number of each channel; "all" takes whole maps. All channels together are one batch. Raises
    UsageError for a node, channel or place that there is not, and for a network without ReLU.
    """
    return _projections(inspection, node, channels, at, "deconvnet")


def guided_backpropagation(
    inspection: Inspection, node: str, channels: Sequence[int], *, at: Place = "strongest"
) -> list[Projection]:
    """Return the guided gradient of one activation of each of ``channels`` of ``node``.

    ``at`` is as for ``deconvnet``; "all" means the sum of the map. For a class, ``node`` is the
    output of the network and the channel the number of the class. Raises as ``deconvnet`` does.
    """
    return _projections(inspection, node, channels, at, "guided")


def _projections(
    inspection: Inspection, node: str, channels: Sequence[int], at: Place, rule: str
) -> list[Projection]:
    inspection.check_node(node)
    for channel in channels:
        inspection.check_channel(node, channel)
    value = inspection.value(node)
    is_map = value.ndim == 3
    if is_map and not isinstance(at, str):
        inspection.check_place(node, at)
    places = [_place(value[..., channel], at) if is_map else None for channel in channels]
    signals = np.zeros((len(channels), *value.shape), np.float32)
    for signal, channel, place in zip(signals, channels, places, strict=True):
        start = (*place, channel) if place else (..., channel)
        signal[start] = value[start] if rule == "deconvnet" else 1
    field = receptive_field(inspection.graph, node)
    patterns = send_back(inspection, node, INPUT, signals, rule)
    boxes = [
        field.box(*place, inspection.size) if place else (0, 0, *inspection.size)
        for place in places
    ]
    return [
        Projection(
            node=node,
            channel=channel,
            row=place[0] if place else None,
            column=place[1] if place else None,
            activation=float(value[place][channel] if place else value[..., channel].max()),
            pattern=_only(box, pattern),
            box=box,
        )
        for channel, place, pattern, box in zip(channels, places, patterns, boxes, strict=True)
    ]


def _only(box: Box, pattern: FloatArray) -> FloatArray:
    """Return a pattern with 0 outside ``box``: where nothing arrives, Winograd leaves rounding."""
    top, left, bottom, right = box
    result = np.zeros_like(pattern)
    result[top:bottom, left:right] = pattern[top:bottom, left:right]
    return result


def _place(plane: FloatArray, at: Place) -> tuple[int, int] | None:
    """Return (row, column) of the activation that ``at`` means on a map [H, W], None for all."""
    if at == "all":
        return None
    if at == "strongest":
        row, column = divmod(int(plane.argmax()), plane.shape[1])
        return row, column
    row, column = at
    return int(row), int(column)


def send_back(
    inspection: Inspection, source: str, target: str, signals: FloatArray, rule: str
) -> FloatArray:
    """Send signals [K, …] in the shape of ``source`` back to ``target``: float32 [K, …].

    ``rule`` is one of ``way_back.RULES``.
    """
    return carry_back(inspection, source, target, signals, rule)[target]


def carry_back(
    inspection: Inspection,
    source: str,
    target: str,
    signals: FloatArray,
    rule: str,
    *,
    along: Sequence[str] = (),
) -> dict[str, FloatArray]:
    """Send signals [K, …] back as ``send_back`` does, and look at them on the way.

    Returns what arrives at ``target`` and at each value named in ``along``, float32 [K, …]; those
    of which nothing arrives are left out.
    """
    back = way_back(
        inspection.graph,
        inspection.model.weights,
        source,
        target,
        shapes={INPUT: inspection.input.shape},
        rule=rule,
    )
    looked_at = {name: back.arrivals[name] for name in along if name in back.arrivals}
    recorded = inspection.values(back.recorded)
    elements = sum(value.size for value in recorded.values())
    # Some four values of the largest size are on their way at a time.
    elements += 4 * max(prod(inspection.shape(name)) for name in inspection.nodes)
    most = max(1, _BATCH_BYTES // (4 * elements))
    recognizer = inspection.recognizer
    kept = tuple(dict.fromkeys(name for name in looked_at.values() if name != SIGNAL))
    program = ENGINES[recognizer.engine](
        back.graph, back.weights, keep=kept, threads=recognizer.threads
    )
    wanted = {**looked_at, target: back.output}
    parts: dict[str, list[FloatArray]] = {name: [] for name in wanted}
    try:
        for start in range(0, len(signals), most):
            part = signals[start : start + most]
            inputs = {
                name: np.broadcast_to(value, (len(part), *value.shape))
                for name, value in recorded.items()
            }
            found = {SIGNAL: part, **program({SIGNAL: part, **inputs})}
            for name, arrived in wanted.items():
                parts[name].append(found[arrived])
    finally:
        program.close()
    return {
        name: np.concatenate([np.zeros((0, *inspection.shape(name)), np.float32), *arrays])
        for name, arrays in parts.items()
    }
