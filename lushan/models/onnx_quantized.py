"""Operators on bytes as an ONNX model has them: on float32, between conversions from and to bytes.

Bytes stay bytes of the same scale and zero point, and int8 weights stay what they are. Other
runtimes know the pattern, and compute on bytes too::

    bytes → DequantizeLinear → Conv → + shortcut → Relu → QuantizeLinear → bytes

Their scores come near ours and do not equal them: a bias is an integer there, and what lies near
the middle between two bytes may go to the other one.

A picture has a scale and a zero point per channel, which need not be whole: its bytes are pixels.
Convolutions of other runtimes take no such thing. So float32 operators make pixels of the picture,
around it those that stand for 0, and these are bytes of scale 1 and zero point 0; what the zero
points add is part of the bias of the convolution that reads them.

Some runtimes convolve bytes only where the sums become bytes at once. For them a residual sum can
be made of bytes (``round_before_sums``): the network is rounded once more in each block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lushan.errors import GraphError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node, make_node
from lushan.passes.quantize import byte_parameters
from lushan.reference.quantization import HIGHEST, SMALLEST_SCALE, range_parameters, reciprocal
from lushan.reference.requantization import requantization

Nodes: TypeAlias = "list[Any]"  # of onnx.NodeProto
Parameters: TypeAlias = "tuple[str, str]"  # the names of a scale and a zero point

_PIXEL = ("pixel.scale", "pixel.zero_point")
_NONE = (0, 0, 0, 0)
_LARGEST_BIAS = 2**30  # as an integer: it leaves room for the sum
_LAYERS = {"quantized_convolution": "convolution", "quantized_linear": "linear"}


class ByteConversions:
    """Converts the nodes of one quantised graph that read or give bytes, but not float32.

    ``constants`` are what the converted nodes read that no node gives. ``make`` is
    ``onnx.helper.make_node``; ``convert_plain`` converts a node on float32, that reads what a value
    of ``graph`` stands for first.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        make: Callable[..., Any],
        convert_plain: Callable[[Node, str], Nodes],
        *,
        round_before_sums: bool,
    ) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self._graph = graph
        self._weights = weights
        self._make = make
        self._convert_plain = convert_plain
        self._round_before_sums = round_before_sums
        self._parameters = byte_parameters(graph)
        self._producers = graph.producers()
        self._readers = graph.consumers()

    def convert(self, node: Node) -> Nodes:
        """Return the ONNX nodes of ``node``; raises GraphError for what has no equal there."""
        if node.operator == "quantize":
            return self._quantize(node)
        if node.operator == "dequantize":
            return self._dequantize(node.inputs[0], node.name)
        if node.operator in _LAYERS:
            return self._layer(node)
        name, x = node.name, f"{node.name}/x"
        plain = node.operator.removeprefix("quantized_")
        parameters = self._parameters[name]
        if self._are_pixels(name):  # they stay what they are
            if plain != "max_pooling":
                raise self._no_equal(node)
            parameters = self._pixel()
            nodes = self._from_bytes(node.inputs[0], x, parameters)
        else:
            nodes = self._dequantize(node.inputs[0], x)
        if plain == "global_average_pooling":
            pooled = f"{name}/pooled"
            return [
                *nodes,
                self._make("GlobalAveragePool", [x], [f"{pooled}/mean"]),
                *self._rounded(f"{pooled}/mean", pooled, parameters),
                self._make("Flatten", [pooled], [f"{name}/y"]),
                *self._to_bytes(f"{name}/y", name, parameters),
            ]
        on_floats = Node(plain, (x,), (f"{name}/y",), node.attributes)
        nodes += self._convert_plain(on_floats, node.inputs[0])
        return nodes + self._to_bytes(f"{name}/y", name, parameters)

    # --- from and to bytes ----------------------------------------------------------------------

    def _quantize(self, node: Node) -> Nodes:
        if not self._are_pixels(node.name):
            return self._to_bytes(node.inputs[0], node.name, self._parameters[node.name])
        # A convolution makes pixels for itself, with its padding around them.
        readers = self._readers[node.name]
        unread = all(reader.operator == "quantized_convolution" for reader in readers)
        if unread and node.name not in self._graph.outputs:
            return []
        return self._pixels(node, node.name, _NONE)

    def _pixels(self, quantize: Node, name: str, padding: tuple[int, int, int, int]) -> Nodes:
        """Turn the picture that ``quantize`` reads into pixels, ``padding`` of them around it."""
        x, scale, zero_point = quantize.inputs
        factor = self._constant(f"{x}.factor", _channels(reciprocal(self._weights[scale])))
        addend = self._constant(f"{x}.addend", _channels(self._weights[zero_point]))
        nodes: Nodes = []
        if any(padding):
            top, bottom, left, right = padding
            sides = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
            sides_name = self._constant(f"{name}/sides", sides)
            nodes.append(self._make("Pad", [x, sides_name], [f"{name}/padded"]))
            x = f"{name}/padded"
        return [
            *nodes,
            self._make("Mul", [x, factor], [f"{name}/scaled"]),
            self._make("Add", [f"{name}/scaled", addend], [f"{name}/moved"]),
            *self._to_bytes(f"{name}/moved", name, self._pixel()),
        ]

    def _dequantize(self, x: str, name: str) -> Nodes:
        """Return what the bytes ``x`` stand for, called ``name``."""
        if not self._are_pixels(x):
            return self._from_bytes(x, name, self._parameters[x])
        scale, zero_point = (_channels(self._weights[key]) for key in self._parameters[x])
        return [
            *self._from_bytes(x, f"{name}/pixels", self._pixel()),
            self._make(
                "Sub",
                [f"{name}/pixels", self._constant(f"{name}/zeros", zero_point)],
                [f"{name}/centred"],
            ),
            self._make("Mul", [f"{name}/centred", self._constant(f"{name}/scales", scale)], [name]),
        ]

    def _to_bytes(self, x: str, name: str, parameters: Parameters) -> Nodes:
        return [self._make("QuantizeLinear", [x, *self._numbers(parameters)], [name])]

    def _from_bytes(self, x: str, name: str, parameters: Parameters) -> Nodes:
        return [self._make("DequantizeLinear", [x, *self._numbers(parameters)], [name])]

    def _rounded(self, x: str, name: str, parameters: Parameters) -> Nodes:
        """Return x as its bytes would have it, called ``name``, float32."""
        return [
            *self._to_bytes(x, f"{name}/bytes", parameters),
            *self._from_bytes(f"{name}/bytes", name, parameters),
        ]

    # --- layers ---------------------------------------------------------------------------------

    def _layer(self, node: Node) -> Nodes:
        """Convert a convolution or a fully connected layer, to the end of its block."""
        name, ends = node.name, node.inputs[5:]
        relu = node.options.get("activation") == "relu"
        shortcut = ends[:3] if len(ends) >= 3 else None
        output = (ends[-2], ends[-1]) if len(ends) in (2, 5) else None
        nodes = self._sums(node)
        value = f"{name}/sums"
        if shortcut is not None:
            if output is not None and self._round_before_sums:
                middle = self._before_sum(name, (shortcut[1], shortcut[2]), output, relu)
                nodes += self._rounded(value, f"{name}/rounded", middle)
                value = f"{name}/rounded"
            nodes += self._dequantize(shortcut[0], f"{name}/shortcut")
            nodes.append(self._make("Add", [value, f"{name}/shortcut"], [f"{name}/sum"]))
            value = f"{name}/sum"
        if relu:
            nodes.append(self._make("Relu", [value], [f"{name}/relu"]))
            value = f"{name}/relu"
        if output is not None:
            return nodes + self._to_bytes(value, name, output)
        nodes[-1].output[0] = name
        return nodes

    def _sums(self, node: Node) -> Nodes:
        """Convert the layer itself, without what follows it; the result is ``…/sums``."""
        name, (source, zero_point, weight, scale, bias) = node.name, node.inputs[:5]
        options: dict[str, Any] = node.options
        options.pop("activation", None)
        integers, scales, biases = (self._weights[key] for key in (weight, scale, bias))
        x = f"{name}/x"
        if self._are_pixels(source):
            quantize = self._quantize_of(node, source)
            padding = options.get("padding", _NONE)
            nodes = self._pixels(quantize, f"{x}/bytes", padding)
            nodes += self._from_bytes(f"{x}/bytes", x, self._pixel())
            options |= {"padding": _NONE} if "padding" in options else {}
            zero_points, groups = self._weights[zero_point], options.get("groups", 1)
            finish = requantization(integers, scales, biases, zero_points, groups=groups)
            biases, unit = finish.offset, 1.0
        else:
            nodes = self._dequantize(source, x)
            unit = float(self._weights[self._parameters[source][0]])
        arrays = _integers(integers, scales, biases, unit)
        inputs = [x]
        for what, (array, units) in arrays.items():
            names = [
                self._constant(f"{name}/{what}/integers", array),
                self._constant(f"{name}/{what}/scale", units),
                self._constant(f"{name}/{what}/zero_point", np.zeros(len(array), array.dtype)),
            ]
            inputs.append(f"{name}/{what}")
            nodes.append(self._make("DequantizeLinear", names, [inputs[-1]], axis=0))
        operator = _LAYERS[node.operator]
        on_floats = make_node(operator, tuple(inputs), (f"{name}/sums",), **options)
        return nodes + self._convert_plain(on_floats, source)

    def _quantize_of(self, node: Node, pixels: str) -> Node:
        """Return the node that makes the ``pixels`` that ``node`` reads of a picture."""
        producer = self._producers[pixels]
        if producer.operator != "quantize":
            raise self._no_equal(node)
        return producer

    def _no_equal(self, node: Node) -> GraphError:
        return GraphError(
            "{node!r} cannot be exported to ONNX: {operator} of such pixels has no equal there",
            node=node.name,
            operator=node.operator,
        )

    def _before_sum(
        self, name: str, shortcut: Parameters, output: Parameters, relu: bool
    ) -> Parameters:
        """Return parameters for the sums of a block, before the shortcut is added to them.

        What is less than minus the most that a shortcut can be, or more than the output's most
        minus the least shortcut, ends at an end of the output's range whatever the shortcut.
        """
        (s_low, s_high), (low, high) = (self._range(of) for of in (shortcut, output))
        found = range_parameters((0 if relu else low) - s_high, high - s_low)
        names = (f"{name}/rounded.scale", f"{name}/rounded.zero_point")
        self._constant(names[0], found.scale)
        self._constant(names[1], found.zero_point.astype(np.uint8))
        return names

    def _range(self, parameters: Parameters) -> tuple[float, float]:
        """Return the least and the greatest number that bytes stand for."""
        scale, zero_point = (float(self._weights[name]) for name in parameters)
        return -zero_point * scale, (HIGHEST - zero_point) * scale

    # --- constants ------------------------------------------------------------------------------

    def _are_pixels(self, name: str) -> bool:
        """Return whether bytes have parameters that a runtime's convolution would not take."""
        _, zero_point = (self._weights[key] for key in self._parameters[name])
        return zero_point.ndim > 0 or bool(zero_point % 1)

    def _numbers(self, parameters: Parameters) -> Parameters:
        """Return the names of constants for a scale and a zero point."""
        scale, zero_point = parameters
        if scale not in self.constants:
            self._constant(scale, self._weights[scale])
            self._constant(zero_point, self._weights[zero_point].astype(np.uint8))
        return parameters

    def _pixel(self) -> Parameters:
        """Return the names of the parameters of pixels, 1 and 0."""
        self._constant(_PIXEL[0], np.float32(1))
        self._constant(_PIXEL[1], np.uint8(0))
        return _PIXEL

    def _constant(self, name: str, array: Any) -> str:
        self.constants[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        return name


def _channels(numbers: Array) -> Array:
    """Return a number, or one for each channel, such that it meets values [N, C, H, W]."""
    return numbers.reshape(-1, 1, 1) if numbers.ndim else numbers


def _integers(
    weight: Array, scale: Array, bias: Array, unit: float
) -> dict[str, tuple[NDArray[Any], Array]]:
    """Return weight and bias of a layer as integers, with the scales of their output channels.

    ``scale`` is what one unit of the sum stands for, ``unit`` what one of the input does. The bias
    must be an integer of the same scale as the sum. Where it would be too large for one, weights so
    small beside it are made smaller still; where there are no weights, any scale will do.
    """
    least = np.maximum(np.abs(bias).astype(np.float64) / _LARGEST_BIAS, SMALLEST_SCALE)
    alive = weight.reshape(len(weight), -1).any(axis=1)
    chosen = np.where(alive, np.maximum(scale, least), least)
    shrunk = np.rint(weight * (scale / chosen).reshape(-1, *[1] * (weight.ndim - 1)))
    if weight.ndim == 4:  # [OC, KH, KW, IC] → [OC, IC, KH, KW]
        shrunk = shrunk.transpose(0, 3, 1, 2)
    return {
        "weight": (shrunk.astype(np.int8), (chosen / unit).astype(np.float32)),
        "bias": (np.rint(bias / chosen).astype(np.int32), chosen.astype(np.float32)),
    }
