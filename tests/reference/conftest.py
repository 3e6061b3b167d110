"""What the tests of the operators share: an independent oracle, and derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

Array = np.ndarray[Any, Any]


def _numerical_gradient(
    function: Callable[[], Array], array: Array, grad_y: Array, *, step: float = 1e-6
) -> Array:
    """Return the gradient of sum(function() * grad_y) by ``array``, by central differences.

    ``function`` must read ``array``, which is changed in place, one element at a time, and
    restored. Everything must be float64: half of its digits survive a difference.
    """
    assert array.dtype == grad_y.dtype == np.float64
    gradient = np.zeros_like(array)
    for index in np.ndindex(*array.shape):
        value = array[index]
        array[index] = value + step
        above = np.sum(function() * grad_y)
        array[index] = value - step
        below = np.sum(function() * grad_y)
        array[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def _onnx_run(operator: str, *inputs: Array, outputs: int = 1, **attributes: Any) -> list[Array]:
    """Run one ONNX operator in ONNX Runtime; all inputs and outputs in ONNX's layout (NCHW)."""
    names = [f"input{i}" for i in range(len(inputs))]
    results = [f"output{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, names, results, **attributes)],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in zip(names, inputs, strict=True)
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
    )
    # Old enough for every ONNX Runtime that the test extra allows, new enough for every operator.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
    return answer


def _assert_close(
    ours: Array, theirs: Array, tolerance: float = 1e-5, scale: float | None = None
) -> None:
    """Compare types, shapes, and differences relative to ``scale``: the oracle's largest value."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    scale = scale or max(float(np.abs(theirs).max()), 1e-30)
    assert float(np.abs(ours - theirs).max()) / scale <= tolerance


@pytest.fixture(scope="session")
def numerical_gradient() -> Callable[..., Array]:
    return _numerical_gradient


@pytest.fixture(scope="session")
def onnx_run() -> Callable[..., list[Array]]:
    return _onnx_run


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    return _assert_close
