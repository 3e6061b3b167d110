"""Residual blocks in numbers: what the branch adds to what the shortcut brings (chapter 8).

    sum = branch + shortcut

How long each is, whether they point the same way, and what part of the sum is whose: the part of
the branch is ⟨branch, sum⟩ / ⟨sum, sum⟩, so that both parts make 1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from lushan.explain.inspection import FloatArray, Inspection


@dataclass(frozen=True)
class ResidualBlock:
    """One sum of the network; norms are Euclidean, over all pixels and channels of the picture.

    ``cosine`` is 0 where one of both is 0 everywhere, and so is ``branch_share`` where the sum is.
    """

    node: str
    branch: str
    shortcut: str
    branch_norm: float
    shortcut_norm: float
    sum_norm: float
    cosine: float
    branch_share: float

    @property
    def shortcut_share(self) -> float:
        """The part of the sum that the shortcut brings."""
        return 1 - self.branch_share


def residual_blocks(
    inspection: Inspection, among: Collection[str] | None = None
) -> list[ResidualBlock]:
    """Return every residual sum of the network in order; none for a plain network.

    ``among`` limits them to nodes of these names.
    """
    sums = [
        node
        for node in inspection.graph.nodes
        if node.operator == "add" and (among is None or node.name in among)
    ]
    inspection.values(name for node in sums for name in (*node.inputs, node.name))
    blocks = []
    for node in sums:
        branch, shortcut = node.inputs
        values = inspection.values([branch, shortcut, node.name])
        blocks.append(_block(node.name, branch, shortcut, values))
    return blocks


def _block(
    node: str, branch_name: str, shortcut_name: str, values: dict[str, FloatArray]
) -> ResidualBlock:
    branch, shortcut, total = (
        values[name].astype(np.float64).ravel() for name in (branch_name, shortcut_name, node)
    )
    lengths = [float(np.linalg.norm(vector)) for vector in (branch, shortcut, total)]
    product = lengths[0] * lengths[1]
    square = lengths[2] ** 2
    return ResidualBlock(
        node=node,
        branch=branch_name,
        shortcut=shortcut_name,
        branch_norm=lengths[0],
        shortcut_norm=lengths[1],
        sum_norm=lengths[2],
        cosine=float(branch @ shortcut) / product if product else 0.0,
        branch_share=float(branch @ total) / square if square else 0.0,
    )
