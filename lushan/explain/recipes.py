"""The recipe of a layer: all that is needed to add up any number of some of its channels again.

``arithmetic`` takes one number apart. A page in which any of ten thousand may be clicked needs the
same for all of them at once: the kernels and biases of the channels that are shown, and where the
windows lie on the value they slide over.

    value[row, column, k] = activation(Σ window(row, column) · kernels[k] + biases[k] + shortcut)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lushan import passes
from lushan.errors import UsageError
from lushan.explain.inspection import FloatArray, Inspection
from lushan.graph.shape_rules import window_of
from lushan.reference.geometry import Window

# Activations that an engine does not always take into the convolution before them.
_ACTIVATIONS = ("relu", "leaky_relu", "prelu", "sigmoid", "tanh")


@dataclass(frozen=True)
class Recipe:
    """How the numbers of ``channels`` of the value ``node`` come from the value ``source``.

    ``kernels`` are float32 [K, KH, KW, IC/groups], folded, as they were used; ``biases`` float32
    [K], ``slopes`` (of a leaky activation) float64 [K]. Channel k reads the channels of ``source``
    from ``first[k]`` on. ``slide`` is how the window moves. ``shortcut`` names the value that is
    added to the sum, None without. Where ``separate`` is True the engine stores the sum
    as a float32 before the activation.
    """

    node: str
    channels: tuple[int, ...]
    source: str
    slide: Window
    kernels: FloatArray
    biases: FloatArray
    first: tuple[int, ...]
    shortcut: str | None
    activation: str
    slopes: npt.NDArray[np.float64]
    separate: bool = False

    @property
    def values(self) -> tuple[str, ...]:
        """The values that are read, and the node itself: ask for them in one run."""
        read = (self.source,) if self.shortcut is None else (self.source, self.shortcut)
        return (*read, self.node)


def recipe(inspection: Inspection, node: str, channels: Sequence[int]) -> Recipe:
    """Return the recipe of some channels of a node with maps that a convolution begins.

    That is a convolution, batch norm, sum or activation. Raises UsageError for another node, and
    for channels that it does not have.
    """
    inspection.check_map(node)
    for channel in channels:
        inspection.check_channel(node, channel)
    graph, weights = passes.apply(inspection.graph, inspection.model.weights, keep=[node])
    rewritten = graph.node(node)
    chosen = list(channels)
    if rewritten.operator in _ACTIVATIONS:
        below = recipe(inspection, rewritten.inputs[0], channels)
        others = rewritten.inputs[1:]
        slopes = (
            np.asarray(weights[others[0]], np.float64)[chosen]
            if others
            else np.full(len(chosen), rewritten.options.get("slope", 0.0), np.float64)
        )
        return replace(
            below, node=node, activation=rewritten.operator, slopes=slopes, separate=True
        )
    if rewritten.operator not in ("convolution", "fused_convolution"):
        raise UsageError(
            "{name}: the recipe of {operator} is not known; ask for the layer after a convolution",
            name=node,
            operator=rewritten.operator,
        )
    source, weight, *added = rewritten.inputs
    array = weights[weight]
    options: dict[str, Any] = rewritten.options
    each = len(array) // options["groups"]
    return Recipe(
        node=node,
        channels=tuple(chosen),
        source=source,
        slide=window_of(rewritten, (array.shape[1], array.shape[2])),
        kernels=np.ascontiguousarray(array[chosen]),
        biases=np.asarray(weights[added[0]])[chosen]
        if added
        else np.zeros(len(chosen), np.float32),
        first=tuple(channel // each * array.shape[3] for channel in chosen),
        shortcut=added[1] if len(added) > 1 else None,
        activation=options.get("activation", "none"),
        slopes=np.full(len(chosen), options.get("slope", 0.0), np.float64),
    )
