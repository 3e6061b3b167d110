"""Lowers whole graphs, for this machine or another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lushan import passes
from lushan.cpu.code import code_store
from lushan.cpu.lower import Lowered, lower
from lushan.cpu.lowering_context import Options
from lushan.cpu.packing import Packer
from lushan.cpu.target import Target
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from support.native_tasks import targets


def lowered_for(
    target: Target,
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    keep: Sequence[str] = (),
    *,
    in_parts: bool = False,
) -> Lowered:
    """Lower ``graph`` for inputs of these shapes, for two threads; ``in_parts`` as in ``lower``.

    For another machine, a target of this one packs the weights: they lie in the same order for all
    that have as many lanes.
    """
    own = next((own for own in targets() if own == target), None) or next(
        own for own in targets() if own.lanes == target.lanes
    )
    rewritten, folded = passes.apply(graph, weights, keep=keep)
    updated = {name for node in rewritten.nodes for name in node.updates}
    packer = Packer(folded, own, code_store(own), updated=updated)
    types = infer_types(rewritten, shapes)
    wanted = {*graph.outputs, *keep}
    options = Options(threads=2)
    lowered = lower(rewritten, types, packer, target, options, wanted, in_parts=in_parts)
    packer.finish(lambda work: work(0))
    return lowered
