"""Runs a graph with ONNX Runtime, an implementation that is independent of ours.

Inputs and outputs of the graph are NHWC, as everywhere in lushan; inside the ONNX model they are
NCHW, as that format wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from lushan.graph.ir import Graph, Node
from lushan.graph.verify import infer_types

OPSET, IR_VERSION = 17, 8


def run_with_onnxruntime(
    graph: Graph, weights: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the outputs of ``graph`` as ONNX Runtime computes them in float32."""
    session = make_session(graph, weights)
    feeds = {name: _to_nchw(array) for name, array in inputs.items()}
    results = session.run(list(graph.outputs), feeds)
    return {name: _to_nhwc(result) for name, result in zip(graph.outputs, results, strict=True)}


def make_session(
    graph: Graph, weights: Mapping[str, np.ndarray], *, threads: int = 1
) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session for ``graph``; 0 threads lets ONNX Runtime choose."""
    types = infer_types(graph)
    nodes: list[Any] = []
    constants = {}
    for node in graph.nodes:
        nodes += _convert(node, types[node.inputs[0]].shape[-1])
        for position, name in enumerate(node.inputs):
            if name in weights:
                constants[name] = _constant(name, weights[name], node.operator, position)
    model_inputs = [
        helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None] * len(value.type.shape))
        for value in graph.inputs
    ]
    model_outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(types[name].shape))
        for name in graph.outputs
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", model_inputs, model_outputs, list(constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _to_nchw(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def _to_nhwc(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _constant(name: str, array: np.ndarray, operator: str, position: int) -> Any:
    array = np.asarray(array, np.float32)
    if array.ndim == 4:  # [OC, KH, KW, IC] → [OC, IC, KH, KW]
        array = array.transpose(0, 3, 1, 2)
    elif operator == "prelu" and position == 1:
        array = array[:, None, None]
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def _window(options: Mapping[str, Any]) -> dict[str, Any]:
    top, bottom, left, right = options["padding"]
    return {"strides": options["stride"], "pads": [top, left, bottom, right]}


def _convert(node: Node, channels: int) -> list[Any]:
    """Return the ONNX nodes that compute ``node``, whose input has ``channels`` channels."""
    options = node.options
    name, inputs = node.name, list(node.inputs)

    def single(operator: str, **attributes: Any) -> list[Any]:
        return [helper.make_node(operator, inputs, [name], **attributes)]

    def shortcut() -> list[Any]:
        before = (options["channels"] - channels) // 2
        after = options["channels"] - channels - before
        numbers = {
            "starts": [0, 0],
            "ends": [2**31, 2**31],
            "axes": [2, 3],
            "steps": [options["stride"]] * 2,
            "pads": [0, before, 0, 0, 0, after, 0, 0],
        }
        constants = [
            helper.make_node("Constant", [], [f"{name}/{key}"], value_ints=list(value))
            for key, value in numbers.items()
        ]
        slicing = [f"{name}/{key}" for key in ("starts", "ends", "axes", "steps")]
        return [
            *constants,
            helper.make_node("Slice", [*inputs, *slicing], [f"{name}/sliced"]),
            helper.make_node("Pad", [f"{name}/sliced", f"{name}/pads"], [name]),
        ]

    def convolution(operator: str, **more: Any) -> list[Any]:
        return single(
            operator,
            dilations=options["dilation"],
            group=options["groups"],
            **_window(options),
            **more,
        )

    conversions: dict[str, Callable[[], list[Any]]] = {
        "convolution": lambda: convolution("Conv"),
        "transposed_convolution": lambda: convolution(
            "ConvTranspose", output_padding=options["output_padding"]
        ),
        "batch_norm": lambda: single("BatchNormalization", epsilon=options["epsilon"]),
        "relu": lambda: single("Relu"),
        "leaky_relu": lambda: single("LeakyRelu", alpha=options["slope"]),
        "prelu": lambda: single("PRelu"),
        "sigmoid": lambda: single("Sigmoid"),
        "tanh": lambda: single("Tanh"),
        "max_pooling": lambda: single(
            "MaxPool", kernel_shape=options["kernel"], **_window(options)
        ),
        "average_pooling": lambda: single(
            "AveragePool",
            kernel_shape=options["kernel"],
            count_include_pad=int(options["count_include_pad"]),
            **_window(options),
        ),
        "global_average_pooling": lambda: [
            helper.make_node("GlobalAveragePool", inputs, [f"{name}/pooled"]),
            helper.make_node("Flatten", [f"{name}/pooled"], [name]),
        ],
        "add": lambda: single("Add"),
        "zero_padding_shortcut": shortcut,
        "linear": lambda: single("Gemm", transB=1),
        "softmax": lambda: single("Softmax", axis=-1),
    }
    return conversions[node.operator]()
