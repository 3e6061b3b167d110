"""Activations in numbers: what they let through, which channels are silent, which are saturated.

A ReLU that gives 0 at every place has a silent channel on this picture; one that is silent on every
picture is dead, for no gradient passes it (chapter 9). A sigmoid or tanh is saturated where its
slope is below a hundredth of its greatest: there almost no gradient passes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lushan.explain.inspection import FloatArray, Inspection

ACTIVATIONS = ("relu", "leaky_relu", "prelu", "sigmoid", "tanh")
SATURATED = 0.01  # of the greatest slope
BINS = 64


@dataclass(frozen=True)
class ActivationStatistics:
    """One activation on this picture.

    ``blocked`` counts the numbers that came in at or below 0, of ``elements``; ``silent`` are the
    channels where all did, of ``channels``. ``saturated`` counts where the slope is nearly 0; of
    ReLU's relatives only ReLU itself has that. ``counts`` [64] is the histogram of what came in,
    between the ``edges`` [65].
    """

    node: str
    operator: str
    elements: int
    channels: int
    blocked: int
    silent: tuple[int, ...]
    saturated: int
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]


def activation_statistics(
    inspection: Inspection, among: Collection[str] | None = None
) -> list[ActivationStatistics]:
    """Return the statistics of every activation of the network, in order.

    ``among`` limits them to nodes of these names.
    """
    nodes = [
        node
        for node in inspection.graph.nodes
        if node.operator in ACTIVATIONS and (among is None or node.name in among)
    ]
    inspection.values(name for node in nodes for name in (node.inputs[0], node.name))
    return [
        _statistics(
            node.name,
            node.operator,
            inspection.value(node.inputs[0]),
            inspection.value(node.name),
        )
        for node in nodes
    ]


def _statistics(node: str, operator: str, x: FloatArray, y: FloatArray) -> ActivationStatistics:
    blocked = x <= 0
    silent = np.flatnonzero(blocked.all(axis=(0, 1)))
    counts, edges = np.histogram(x, BINS)
    return ActivationStatistics(
        node=node,
        operator=operator,
        elements=x.size,
        channels=x.shape[2],
        blocked=int(np.count_nonzero(blocked)),
        silent=tuple(silent.tolist()),
        saturated=int(np.count_nonzero(_saturated(operator, blocked, y))),
        counts=counts,
        edges=edges.astype(np.float64),
    )


def _saturated(
    operator: str, blocked: npt.NDArray[np.bool_], y: FloatArray
) -> npt.NDArray[np.bool_]:
    """Return where the slope is below ``SATURATED`` of its greatest."""
    if operator == "relu":
        return blocked
    flat: npt.NDArray[np.bool_]
    if operator == "sigmoid":  # the slope is y · (1 − y), at most a quarter
        flat = 4 * y * (1 - y) < SATURATED
    elif operator == "tanh":  # 1 − y²
        flat = 1 - y * y < SATURATED
    else:
        flat = np.zeros(y.shape, bool)
    return flat
