"""Quantising: the same network on bytes, given what the bytes of each value shall stand for.

Before::

    y = fused_convolution(x, weight, bias, shortcut) activation='relu'

After::

    x.quantized = quantize(x, x.scale, x.zero_point)          unless x is bytes already
    y = quantized_convolution(x.quantized, x.zero_point, conv.weight, conv.weight_scale, conv.bias,
                              shortcut, shortcut.scale, shortcut.zero_point,
                              y.scale, y.zero_point) activation='relu'

It needs what folding and fusing leave: then a block is rounded to bytes once for each convolution,
and not again for batch norm, residual sum and ReLU. Values keep their names and become bytes.
Inputs and outputs of the graph stay float32, and so does everything that has no operator on bytes
(other activations, average pooling): ``{x}.dequantized`` is what such a node reads. A convolution
before another activation gives float32, ``{y}.sum``, which is not rounded to bytes in between.

Weights become int8 with a scale per output channel, which the scale of x is multiplied into; a
picture's scales, one per channel, go into the weights themselves. They are called after the
convolution's weight: ``conv1.weight``, ``conv1.weight_scale``, ``conv1.bias``.

What the new graph looks like depends on the old one alone, never on numbers: a file of quantised
weights can be checked against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import cast

import numpy as np

from lushan.errors import GraphError, ModelError, UsageError
from lushan.graph.executor import Array
from lushan.graph.ir import Attribute, Graph, Node, TensorType, Value
from lushan.graph.weights import Factors, New, Shape, derived
from lushan.reference.quantization import QuantizationParameters, quantize_weight
from lushan.reference.requantization import ACTIVATIONS


def quantize(
    graph: Graph,
    weights: Mapping[str, Array],
    parameters: Mapping[str, QuantizationParameters],
) -> tuple[Graph, Mapping[str, Array]]:
    """Return ``graph``, folded and fused, on bytes, and its weights, made when asked for.

    ``parameters`` must have every value of ``quantized_values``; those of an input may be per
    channel, all others are single numbers. Raises GraphError when one is missing.
    """
    rewriter = _Rewriter(graph, weights, parameters)
    rewriter.rewrite()
    names = [name for node in rewriter.nodes for name in node.inputs]
    read = [name for name in dict.fromkeys((*names, *graph.outputs)) if name in rewriter.types]
    declared = tuple(Value(name, rewriter.types[name]) for name in read)
    rewritten = Graph(graph.inputs, declared, tuple(rewriter.nodes), graph.outputs)
    # Of no origin: these numbers depend on ``parameters`` too.
    return rewritten, derived(weights, rewriter.new, iter(read))


def quantized_values(graph: Graph) -> tuple[str, ...]:
    """Return the values of ``graph``, folded and fused, whose range ``quantize`` must be told."""
    one, zero = np.asarray(1, np.float32), np.asarray(0, np.float32)
    anything: defaultdict[str, QuantizationParameters] = defaultdict(
        lambda: QuantizationParameters(one, zero)
    )
    rewriter = _Rewriter(graph, {}, anything)
    rewriter.rewrite()
    return tuple(anything)


def byte_parameters(graph: Graph) -> dict[str, tuple[str, str]]:
    """Map every value of a quantised ``graph`` that is bytes to the names of its parameters."""
    found: dict[str, tuple[str, str]] = {}
    for node in graph.nodes:
        if node.operator in ("quantized_max_pooling", "quantized_zero_padding_shortcut"):
            found[node.name] = found[node.inputs[0]]
        elif node.operator in ("quantize", "quantized_global_average_pooling") or (
            node.operator == "quantized_convolution" and len(node.inputs) in (7, 10)
        ):
            found[node.name] = (node.inputs[-2], node.inputs[-1])
    return found


class _Rewriter:
    """Walks through a graph once; every value is known as float32, as bytes, or both."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        parameters: Mapping[str, QuantizationParameters],
    ) -> None:
        self.nodes: list[Node] = []
        self.new: dict[str, New] = {}
        self.types = {value.name: value.type for value in graph.parameters}
        self._graph = graph
        self._weights = weights
        self._parameters = parameters
        self._constants = frozenset(self.types)
        self._readers = graph.consumers()
        self._floats = {value.name: value.name for value in graph.inputs}
        # Bytes by the name of the value: their own name, and whose scale and zero point they have.
        self._bytes: dict[str, tuple[str, str]] = {}

    def rewrite(self) -> None:
        rules = {
            "fused_convolution": self._convolution,
            "max_pooling": self._scale_kept,
            "zero_padding_shortcut": self._scale_kept,
            "global_average_pooling": self._global_average_pooling,
            "linear": self._linear,
        }
        for node in self._graph.nodes:
            rule = rules.get(node.operator)
            if rule is None or not self._can_be_bytes(node):
                self._unchanged(node)
            else:
                rule(node)
            if node.name in self._graph.outputs:
                self._as_floats(node.name)

    def _can_be_bytes(self, node: Node) -> bool:
        """Whether weights are constants, and nobody asks for switches."""
        given = node.inputs[1:3] if node.operator in ("fused_convolution", "linear") else ()
        return self._constants.issuperset(given) and len(node.outputs) == 1

    # --- rules --------------------------------------------------------------------------------

    def _convolution(self, node: Node) -> None:
        x, weight, bias, *shortcut = node.inputs
        options = node.options
        activation, slope = options.pop("activation"), options.pop("slope")
        inputs = [self._as_bytes(x), *self._weighted(node, x, weight, bias)]
        if shortcut:
            inputs += [self._as_bytes(shortcut[0]), *self._numbers(self._bytes[shortcut[0]][1])]
        if activation in ACTIVATIONS:
            inputs += self._numbers(node.name)
            options["activation"] = activation
            self._define_bytes(node, "quantized_convolution", inputs, options)
            return
        total = f"{node.name}.sum"
        self._add("quantized_convolution", inputs, total, {**options, "activation": "none"})
        more: dict[str, Attribute] = {"slope": slope} if activation == "leaky_relu" else {}
        self._add(cast("str", activation), [total], node.name, more)
        self._floats[node.name] = node.name

    def _linear(self, node: Node) -> None:
        x, weight, *bias = node.inputs
        inputs = [self._as_bytes(x), *self._weighted(node, x, weight, bias[0] if bias else None)]
        self._add("quantized_linear", inputs, node.name)
        self._floats[node.name] = node.name

    def _global_average_pooling(self, node: Node) -> None:
        x = node.inputs[0]
        inputs = [self._as_bytes(x), *self._numbers(self._bytes[x][1]), *self._numbers(node.name)]
        self._define_bytes(node, "quantized_global_average_pooling", inputs)

    def _scale_kept(self, node: Node) -> None:
        """Rewrite an operator whose bytes stand for the same as those it reads."""
        x = node.inputs[0]
        bytes_ = self._as_bytes(x)
        owner = self._bytes[x][1]
        zero = self._numbers(owner)[1:] if node.operator == "zero_padding_shortcut" else ()
        operator = f"quantized_{node.operator}"
        self._define_bytes(node, operator, [bytes_, *zero], node.options, owner)

    def _unchanged(self, node: Node) -> None:
        inputs = tuple(
            name if name in self._constants else self._as_floats(name) for name in node.inputs
        )
        self.nodes.append(Node(node.operator, inputs, node.outputs, node.attributes, node.updates))
        self._floats.update((name, name) for name in node.outputs)

    # --- values -------------------------------------------------------------------------------

    def _as_bytes(self, name: str) -> str:
        """Return the name of a value as bytes; what is float32 is quantised once."""
        if name not in self._bytes:
            quantized = f"{name}.quantized"
            inputs = [self._floats[name], *self._numbers(name)]
            self._bytes[name] = (self._add("quantize", inputs, quantized), name)
        return self._bytes[name][0]

    def _as_floats(self, name: str) -> str:
        """Return the name of a value as float32; bytes are dequantised once."""
        if name not in self._floats:
            bytes_, owner = self._bytes[name]
            new = name if name in self._graph.outputs else f"{name}.dequantized"
            self._floats[name] = self._add("dequantize", [bytes_, *self._numbers(owner)], new)
        return self._floats[name]

    def _define_bytes(
        self,
        node: Node,
        operator: str,
        inputs: Sequence[str],
        options: Mapping[str, Attribute] = MappingProxyType({}),
        owner: str | None = None,
    ) -> None:
        """Add the operator on bytes in place of ``node``; an output's name is for its float32."""
        name = f"{node.name}.quantized" if node.name in self._graph.outputs else node.name
        made = self._add(operator, inputs, name, options)
        self._bytes[node.name] = (made, owner or node.name)

    def _add(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        options: Mapping[str, Attribute] = MappingProxyType({}),
    ) -> str:
        attributes = tuple(sorted(options.items()))
        self.nodes.append(Node(operator, tuple(inputs), (name,), attributes))
        return name

    # --- parameters ---------------------------------------------------------------------------

    def _of(self, name: str) -> QuantizationParameters:
        try:
            return self._parameters[name]
        except KeyError:
            raise GraphError(
                "nothing says what the bytes of {name!r} stand for", name=name
            ) from None

    def _numbers(self, name: str) -> tuple[str, str]:
        """Return the names of the scale and the zero point of a value's bytes."""
        given = self._of(name)
        names = (f"{name}.scale", f"{name}.zero_point")
        for new, array in zip(names, (given.scale, given.zero_point), strict=True):
            self._give(new, array.shape, partial(_itself, array))
        return names

    def _weighted(
        self, node: Node, x: str, weight: str, bias: str | None
    ) -> tuple[str, str, str, str]:
        """Return the names of the zero point of x, the weight, its scale, and the bias."""
        self._as_bytes(x)
        owner = self._bytes[x][1]
        shape = tuple(size or 0 for size in self.types[weight].shape)
        base = self._base(node, weight)
        scaled = partial(
            _quantized,
            base,
            self._weights,
            weight,
            self._of(owner),
            cast("int", node.options.get("groups", 1)),
        )
        self._give(f"{base}.weight", shape, partial(scaled, 0), "int8")
        self._give(f"{base}.weight_scale", shape[:1], partial(scaled, 1))
        self._give(f"{base}.bias", shape[:1], partial(_bias, self._weights, bias, shape[0]))
        zero_point = self._numbers(owner)[1]
        return zero_point, f"{base}.weight", f"{base}.weight_scale", f"{base}.bias"

    def _base(self, node: Node, weight: str) -> str:
        """Return what to call a layer's parameters after: its weight, if nobody else reads it."""
        base = weight.removesuffix(".weight").removesuffix(".folded")
        for name, old in ((base, (weight, *_parts(base))), (node.name, _parts(node.name))):
            if all(reader is node for part in old for reader in self._readers.get(part, ())):
                return name
        return f"{node.name}.quantized"

    def _give(
        self, name: str, shape: Shape, get: Callable[[], Array], dtype: str = "float32"
    ) -> None:
        self.types[name] = TensorType(shape, dtype)
        self.new[name] = New(shape, lambda: Factors(get(), None))


def _parts(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


def _itself(array: Array) -> Array:
    return array


def _bias(weights: Mapping[str, Array], bias: str | None, channels: int) -> Array:
    if bias is None:
        return np.zeros(channels, np.float32)
    return weights[bias].astype(np.float32)


def _quantized(
    base: str,
    weights: Mapping[str, Array],
    weight: str,
    of_x: QuantizationParameters,
    groups: int,
    part: int,
) -> Array:
    """Return the weight of a layer as int8 (part 0), or its scales (part 1)."""
    array = weights[weight]
    # [OC, …, IC/G] as [G, OC/G, …, IC/G]: each group has input channels, and scales, of its own.
    grouped = array.reshape(groups, -1, *array.shape[1:]).astype(np.float64)
    channels = groups * array.shape[-1]
    scale = np.broadcast_to(of_x.scale, channels).astype(np.float64)
    scaled = grouped * scale.reshape(groups, *[1] * (array.ndim - 1), -1)
    try:
        return quantize_weight(scaled.reshape(array.shape))[part]
    except UsageError as error:
        raise ModelError("{name}: {problem}", name=f"{base}.weight", problem=error) from None
