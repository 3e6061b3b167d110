"""Runs a graph with ONNX Runtime, an implementation that is independent of ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

from lushan.graph.ir import Graph
from lushan.models.onnx_export import to_nchw, to_nhwc, to_onnx


def run_with_onnxruntime(
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    *,
    round_before_sums: bool = False,
) -> dict[str, np.ndarray]:
    """Return the outputs of ``graph`` as ONNX Runtime computes them, in float32 or on bytes."""
    model = to_onnx(graph, weights, round_before_sums=round_before_sums)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {name: to_nchw(array) for name, array in inputs.items()}
    results = session.run(list(graph.outputs), feeds)
    return {name: to_nhwc(result) for name, result in zip(graph.outputs, results, strict=True)}
