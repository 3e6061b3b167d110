"""Feature maps: what each channel of a layer answers to this picture, and which answer most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.explain.inspection import FloatArray, Inspection
from lushan.graph.builder import GraphBuilder


@dataclass(frozen=True)
class ActiveChannel:
    """A channel of a layer, the greatest number on its map and where, and the mean of the map."""

    channel: int
    peak: float
    row: int
    column: int
    mean: float


def feature_maps(inspection: Inspection, node: str) -> FloatArray:
    """Return the maps of a node, float32 [H, W, C], or its features [C] after global pooling."""
    return inspection.value(node)


def strongest_channels(
    inspection: Inspection, node: str, count: int = 9, *, by: str = "peak"
) -> list[ActiveChannel]:
    """Return the ``count`` channels of ``node`` with the greatest peak, or mean, best first.

    Raises UsageError for a node without maps, a ``count`` below 1 and another ``by``.
    """
    inspection.check_map(node)
    if count < 1:
        raise UsageError("count should be 1 or more; received {value!r}", value=count)
    if by not in ("peak", "mean"):
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name="by",
            accepted="peak, mean",
            value=by,
        )
    maps = inspection.value(node)
    columns = maps.shape[1]
    flat = maps.reshape(-1, maps.shape[2])
    places, peaks = flat.argmax(axis=0), flat.max(axis=0)
    means = flat.mean(axis=0, dtype=np.float64)
    order = np.argsort(-(peaks if by == "peak" else means), kind="stable")
    return [
        ActiveChannel(
            channel=int(channel),
            peak=float(peaks[channel]),
            row=int(places[channel]) // columns,
            column=int(places[channel]) % columns,
            mean=float(means[channel]),
        )
        for channel in order[:count]
    ]


def pooling_switches(inspection: Inspection, node: str) -> npt.NDArray[np.int64]:
    """Return where each number of a max pooling came from: row · W + column, int64 [HO, WO, C].

    W is the width of what was pooled; the switches are the engine's own. Raises UsageError for a
    node that is no max pooling.
    """
    inspection.check_map(node)
    pooling = inspection.graph.node(node)
    if pooling.operator != "max_pooling":
        raise UsageError(
            "{name} is {operator}: only max pooling has switches",
            name=node,
            operator=pooling.operator,
        )
    x = pooling.inputs[0]
    switches = f"{node}.switches"
    builder = GraphBuilder()
    builder.input(x, (None, None, None, inspection.shape(x)[2]))
    options: dict[str, Any] = pooling.options
    builder.node("max_pooling", (x,), node, more_outputs=(switches,), **options)
    found = inspection.run(builder.build(switches), {}, {x: inspection.value(x)[None]})
    result: npt.NDArray[np.int64] = found[switches][0]
    return result
