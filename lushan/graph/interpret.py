"""The meaning of the representation: runs a graph node by node with ``lushan.reference``.

This is the reference engine. It is exact about order and clear rather than fast: one NumPy call
per node, every value freed after its last reader. It runs in the float type of the weights and
inputs it is given, so tests run it in float64. ``threads`` is accepted because every engine takes
it; NumPy's BLAS chooses its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lushan.errors import GraphError
from lushan.graph.executor import Array, check_inputs, check_keep, check_weights
from lushan.graph.gradient_meanings import GRADIENT_MEANINGS
from lushan.graph.ir import Graph, Node
from lushan.graph.liveness import last_uses
from lushan.graph.verify import infer_types, verify
from lushan.reference import (
    activation as activations,
)
from lushan.reference import (
    batch_norm,
    convolution,
    cross_entropy,
    linear,
    pooling,
    quantization,
    quantized_convolution,
    quantized_linear,
    quantized_pooling,
    quantized_residual,
    residual,
    softmax,
)
from lushan.reference.quantization import QuantizationParameters


def compile(  # the name every engine gives it
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
) -> ReferenceProgram:
    """Return a program that interprets ``graph``; see ``lushan.graph.executor.Engine``."""
    verify(graph)
    check_weights(graph, weights)
    check_keep(graph, keep)
    return ReferenceProgram(graph, weights, tuple(keep))


class ReferenceProgram:
    """A graph and its parameters, run by the interpreter.

    Parameters that nodes update belong to this program: it copies those on entry, so that the
    caller's arrays never change. Read their present values from ``parameters``. A program whose
    graph updates nothing may be called from several threads at once.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Array], keep: tuple[str, ...]) -> None:
        self._graph = graph
        self._wanted = tuple(dict.fromkeys((*graph.outputs, *keep)))
        updated = {name for node in graph.nodes for name in node.updates}
        self.parameters: dict[str, Array] = {
            value.name: weights[value.name].copy() if value.name in updated else weights[value.name]
            for value in graph.parameters
        }
        self._ends = last_uses(graph, self._wanted)
        self._closed = False

    def __call__(
        self, inputs: Mapping[str, Array], *, threads: int | None = None
    ) -> dict[str, Array]:
        """Run the graph once; see ``lushan.graph.executor.Program``."""
        return self._run_all(inputs, lambda node: None)

    def prepare(self, input_shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the shapes; see ``lushan.graph.executor.Program``."""
        infer_types(self._graph, input_shapes)

    def profile(self, inputs: Mapping[str, Array]) -> list[tuple[str, float]]:
        """Time each node of one run; see ``lushan.graph.executor.ProfilingProgram``."""
        ends: list[tuple[str, float]] = [("", time.perf_counter())]
        self._run_all(inputs, lambda node: ends.append((node.name, time.perf_counter())))
        return [(name, end - start) for (_, start), (name, end) in pairwise(ends)]

    def _run_all(
        self, inputs: Mapping[str, Array], after: Callable[[Node], None]
    ) -> dict[str, Array]:
        """Run every node in order, telling ``after`` of each, and return what is wanted."""
        if self._closed:
            raise GraphError("the program is closed")
        check_inputs(self._graph, inputs)
        infer_types(self._graph, {name: array.shape for name, array in inputs.items()})
        values: dict[str, Array] = {**self.parameters, **inputs}
        for node, ends in zip(self._graph.nodes, self._ends, strict=True):
            self._run(node, values)
            for name in ends:
                del values[name]
            after(node)
        # What a caller gets is the caller's: neither its own input again nor our parameter.
        foreign = {*inputs, *self.parameters}
        return {
            name: values[name].copy() if name in foreign else values[name] for name in self._wanted
        }

    def _run(self, node: Node, values: dict[str, Array]) -> None:
        function = MEANINGS[node.operator]
        arguments = [values[name] for name in node.inputs]
        results = function(*arguments, **node.options)
        if not isinstance(results, tuple):
            results = (results,)
        # An operator returns its outputs, then the new values of the parameters it updates.
        outputs, updates = results[: len(node.outputs)], results[len(results) - len(node.updates) :]
        # A loss comes as a number; a value is an array, of any rank.
        values.update(zip(node.outputs, map(np.asarray, outputs), strict=True))
        for name, new in zip(node.updates, updates, strict=True):
            self.parameters[name][...] = new

    def close(self) -> None:
        """Forget the parameters; see ``lushan.graph.executor.Program``."""
        self._closed = True
        self.parameters = {}


def _fused_convolution(
    x: Array,
    weight: Array,
    bias: Array,
    shortcut: Array | None = None,
    *,
    activation: str,
    slope: float,
    **window: Any,
) -> Array:
    """Convolve, add the shortcut if there is one, then apply the activation."""
    y: Array = convolution.convolution(x, weight, bias, **window)
    if shortcut is not None:
        y = residual.add(y, shortcut)
    if activation == "none":
        return y
    options = {"slope": slope} if activation == "leaky_relu" else {}
    activated: Array = MEANINGS[activation](y, **options)
    return activated


def _quantized_convolution(
    x: Array,
    x_zero_point: Array,
    weight: Array,
    weight_scale: Array,
    bias: Array,
    *ends: Array,
    **options: Any,
) -> Array:
    """Convolve bytes; ``ends`` are a shortcut and its parameters, then those of the output."""
    if len(ends) >= 3:
        options["shortcut"] = (ends[0], QuantizationParameters(*ends[1:3]))
    if len(ends) in (2, 5):
        options["output"] = QuantizationParameters(*ends[-2:])
    y: Array = quantized_convolution.quantized_convolution(
        x, x_zero_point, weight, weight_scale, bias, **options
    )
    return y


def _batch_norm_training(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_variance: Array,
    *,
    epsilon: float,
    momentum: float,
) -> tuple[Array, ...]:
    """Normalise by the batch's statistics and move the running ones towards them."""
    y, mean, variance = batch_norm.batch_norm_training(x, weight, bias, epsilon=epsilon)
    moved = batch_norm.update_running_statistics(
        running_mean, running_variance, mean, variance, x.size // x.shape[-1], momentum=momentum
    )
    return (y, mean, variance, *moved)


MEANINGS: Mapping[str, Callable[..., Any]] = {
    "convolution": convolution.convolution,
    "fused_convolution": _fused_convolution,
    "transposed_convolution": convolution.transposed_convolution,
    "batch_norm": batch_norm.batch_norm,
    "batch_norm_training": _batch_norm_training,
    "relu": activations.relu,
    "leaky_relu": activations.leaky_relu,
    "prelu": activations.prelu,
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "max_pooling": pooling.max_pooling,
    "average_pooling": pooling.average_pooling,
    "global_average_pooling": pooling.global_average_pooling,
    "add": residual.add,
    "zero_padding_shortcut": residual.zero_padding_shortcut,
    "linear": linear.linear,
    "softmax": softmax.softmax,
    "cross_entropy": cross_entropy.cross_entropy,
    "quantize": quantization.quantize,
    "dequantize": quantization.dequantize,
    "quantized_convolution": _quantized_convolution,
    "quantized_linear": quantized_linear.quantized_linear,
    "quantized_max_pooling": quantized_pooling.quantized_max_pooling,
    "quantized_global_average_pooling": quantized_pooling.quantized_global_average_pooling,
    "quantized_zero_padding_shortcut": quantized_residual.quantized_zero_padding_shortcut,
    **GRADIENT_MEANINGS,
}
