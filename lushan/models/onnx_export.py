"""From a graph and its weights to an ONNX model, for other runtimes to read.

Needs the extra ``onnx``. A graph of lushan is NHWC; the model is NCHW throughout, inputs and
outputs included, as that format's operators are. Sizes that a run decides stay open. Left out on
purpose: operators of training, the switches of max pooling, and models of more than 2 GB, which
would need a second file. Operators on bytes are converted by ``onnx_quantized``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lushan import __version__
from lushan.errors import GraphError, MissingExtraError
from lushan.graph.executor import Array, check_weights
from lushan.graph.ir import Graph, Node, Shape, TensorType, Value
from lushan.graph.operators import OPERATORS
from lushan.graph.verify import infer_types, verify
from lushan.models.onnx_quantized import ByteConversions

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8  # of 2022: what every runtime of today reads

_MakeNode: TypeAlias = "Callable[..., onnx.NodeProto]"  # onnx.helper.make_node


def to_onnx(
    graph: Graph, weights: Mapping[str, Array], *, round_before_sums: bool = False
) -> onnx.ModelProto:
    """Return ``graph`` with ``weights`` as an ONNX model: of float32, or QDQ where it is quantised.

    Names are kept. An input [N, H, W, C] becomes [N, C, H, W]; so does an output of four
    dimensions. ``round_before_sums`` is for runtimes that convolve bytes only to bytes: the two
    parts of a residual sum are both rounded to bytes. Raises MissingExtraError without the
    ``onnx`` package, and GraphError for an illegal graph, missing weights or an operator that only
    training has.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingExtraError(
            'an ONNX model needs an extra: pip install "lushan[onnx]"'
        ) from None
    verify(graph)
    check_weights(graph, weights)
    _check_inference(graph)
    types = infer_types(graph)
    nodes = []
    constants: dict[str, Array] = {}

    def convert(node: Node, source: str) -> list[Any]:
        """Convert a node on float32; ``source`` is the value of ``graph`` that it reads first."""
        return CONVERSIONS[node.operator](helper.make_node, node, types[source].shape)

    of_bytes = ByteConversions(
        graph, weights, helper.make_node, convert, round_before_sums=round_before_sums
    )
    for node in graph.nodes:
        if OPERATORS[node.operator].elements:
            nodes += of_bytes.convert(node)
            continue
        nodes += convert(node, node.inputs[0])
        for position, name in enumerate(node.inputs):
            if name in weights:
                constants[name] = _constant(weights[name], node, position, types)
    constants |= of_bytes.constants

    def described(values: list[Value]) -> list[onnx.ValueInfoProto]:
        kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
        return [
            helper.make_tensor_value_info(
                value.name, kinds[value.type.dtype], _dimensions(value.type.shape)
            )
            for value in values
        ]

    inputs = described(list(graph.inputs))
    outputs = described([Value(name, types[name]) for name in graph.outputs])
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "lushan", inputs, outputs, stored),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lushan",
        producer_version=__version__,
    )


def to_nchw(array: Array) -> Array:
    """Return a value of the graph as the model takes it: [N, H, W, C] → [N, C, H, W]."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def to_nhwc(array: Array) -> Array:
    """Return a value of the model as the graph has it: [N, C, H, W] → [N, H, W, C]."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _check_inference(graph: Graph) -> None:
    """Raise GraphError for a node that an ONNX model of inference cannot have."""
    readers = graph.consumers()
    for node in graph.nodes:
        if not (node.operator in CONVERSIONS or OPERATORS[node.operator].elements):
            raise GraphError(
                "{node!r} cannot be exported to ONNX: {operator} is an operator of training "
                "or of a pass",
                node=node.name,
                operator=node.operator,
            )
        for name in node.outputs[1:]:
            if readers[name] or name in graph.outputs:
                raise GraphError(
                    "{node!r} cannot be exported to ONNX: something reads its switches {name!r}",
                    node=node.name,
                    name=name,
                )


def _dimensions(shape: Shape) -> list[int | str | None]:
    """Return a shape as the model declares it; sizes of a run get names."""
    named = [size or name for size, name in zip(shape, ("batch", "height", "width"), strict=False)]
    if len(shape) != 4:
        return [*named[:1], *shape[1:]]
    n, h, w = named
    return [n, shape[3], h, w]


def _constant(array: Array, node: Node, position: int, types: Mapping[str, TensorType]) -> Array:
    """Return a parameter as the model stores it."""
    array = np.asarray(array, np.float32)
    if array.ndim == 4:  # [OC, KH, KW, IC] → [OC, IC, KH, KW]
        array = array.transpose(0, 3, 1, 2)
    elif node.operator == "prelu" and len(types[node.inputs[0]].shape) == 4:
        array = array[:, None, None]  # a slope per channel, whatever the row and column
    return np.ascontiguousarray(array)


# --- operators: each function returns the ONNX nodes of one of ours ------------------------------


def _renamed(operator: str, **fixed: Any) -> Callable[[_MakeNode, Node, Shape], list[Any]]:
    """Return the conversion of an operator that only goes by another name there."""

    def convert(make: _MakeNode, node: Node, shape: Shape) -> list[Any]:
        attributes: dict[str, Any] = {
            _ATTRIBUTES.get(name, name): value for name, value in node.attributes
        }
        if "pads" in attributes:
            top, bottom, left, right = attributes["pads"]
            attributes["pads"] = [top, left, bottom, right]
        if "count_include_pad" in attributes:
            attributes["count_include_pad"] = int(attributes["count_include_pad"])
        return [make(operator, node.inputs, [node.name], **attributes, **fixed)]

    return convert


_ATTRIBUTES = {
    "dilation": "dilations",
    "groups": "group",
    "kernel": "kernel_shape",
    "padding": "pads",
    "slope": "alpha",
    "stride": "strides",
}


def _global_average_pooling(make: _MakeNode, node: Node, shape: Shape) -> list[Any]:
    """[N, C, H, W] → [N, C, 1, 1] → [N, C]."""
    pooled = f"{node.name}/pooled"
    return [
        make("GlobalAveragePool", node.inputs, [pooled]),
        make("Flatten", [pooled], [node.name]),
    ]


def _zero_padding_shortcut(make: _MakeNode, node: Node, shape: Shape) -> list[Any]:
    """Every stride-th row and column, then channels of zeros before and after."""
    name, options = node.name, dict[str, Any](node.attributes)
    added = options["channels"] - (shape[3] or 0)
    before = added // 2
    numbers = {
        "starts": [0, 0],
        "ends": [2**31, 2**31],
        "axes": [2, 3],
        "steps": [options["stride"]] * 2,
        "pads": [0, before, 0, 0, 0, added - before, 0, 0],
    }
    slicing = [f"{name}/{key}" for key in ("starts", "ends", "axes", "steps")]
    return [
        *(make("Constant", [], [f"{name}/{key}"], value_ints=n) for key, n in numbers.items()),
        make("Slice", [*node.inputs, *slicing], [f"{name}/sliced"]),
        make("Pad", [f"{name}/sliced", f"{name}/pads"], [name]),
    ]


CONVERSIONS: Mapping[str, Callable[[_MakeNode, Node, Shape], list[Any]]] = {
    "convolution": _renamed("Conv"),
    "transposed_convolution": _renamed("ConvTranspose"),
    "batch_norm": _renamed("BatchNormalization"),
    "relu": _renamed("Relu"),
    "leaky_relu": _renamed("LeakyRelu"),
    "prelu": _renamed("PRelu"),
    "sigmoid": _renamed("Sigmoid"),
    "tanh": _renamed("Tanh"),
    "max_pooling": _renamed("MaxPool"),
    "average_pooling": _renamed("AveragePool"),
    "global_average_pooling": _global_average_pooling,
    "add": _renamed("Add"),
    "zero_padding_shortcut": _zero_padding_shortcut,
    "linear": _renamed("Gemm", transB=1),
    "softmax": _renamed("Softmax", axis=1),
}
