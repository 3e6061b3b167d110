"""ONNX Runtime's static quantisation of one of our networks, for the benchmarks beside it."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lushan.graph.ir import Graph
from lushan.models.onnx_export import to_nchw, to_onnx
from lushan.models.resnet_graph import INPUT
from lushan.passes.fold_batch_norm import fold_batch_norm


def quantize_with_onnxruntime(
    graph: Graph, weights: Mapping[str, np.ndarray], x: np.ndarray, method: str = "MinMax"
) -> bytes:
    """Return the network as a QDQ model: uint8 activations, int8 weights, per channel.

    ``x`` are preprocessed pictures [N, H, W, 3] to calibrate on. Batch norm is folded before, as
    ONNX Runtime recommends.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.pictures = iter(x[:, None])  # some methods take equal batches only

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.pictures, None)
            return None if picture is None else {INPUT: to_nchw(picture)}

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        plain, target = (Path(folder, f"{kind}.onnx") for kind in ("float32", "int8"))
        onnx.save(to_onnx(*fold_batch_norm(graph, weights)), plain)
        with contextlib.redirect_stdout(io.StringIO()):
            quantization.quantize_static(
                plain,
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod[method],
            )
        return target.read_bytes()
