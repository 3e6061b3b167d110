"""A graph as calls of ``torch.nn.functional``: the same network, for PyTorch to run.

Values are NCHW, as PyTorch wants them. As in a module written by hand, a value is dropped after
its last reader, and ReLU and addition work in place. Left out: operators of training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from lushan.errors import BenchmarkError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.liveness import last_uses

Tensor: TypeAlias = Any  # torch.Tensor, where it is installed
Options: TypeAlias = Mapping[str, Any]


def torch_network(
    graph: Graph, weights: Mapping[str, Array], memory_format: Any
) -> Callable[[Tensor], Tensor]:
    """Return a function from pictures [N, C, H, W] to the graph's first output.

    ``memory_format`` is torch's order of memory for pictures and weights. Raises BenchmarkError
    for an operator that has no equal there.
    """
    check_operators(graph)
    parameters = {
        value.name: to_tensor(weights[value.name], memory_format) for value in graph.parameters
    }
    producers = graph.producers()
    steps = []
    for node, dying in zip(graph.nodes, last_uses(graph, {graph.outputs[0]}), strict=True):
        function = FUNCTIONS[node.operator]
        if node.inputs[0] in dying and node.inputs[0] in producers:
            function = IN_PLACE.get(node.operator, function)
        steps.append((function, node.inputs, node.name, node.options, dying))
    functional = torch_functional()

    def run(x: Tensor) -> Tensor:
        values = {**parameters, graph.inputs[0].name: x}
        for function, inputs, name, options, done in steps:
            values[name] = function(functional, *(values[i] for i in inputs), **options)
            for finished in done:
                values.pop(finished, None)
        return values[graph.outputs[0]]

    return run


def check_operators(graph: Graph) -> None:
    """Raise BenchmarkError for an operator that has no equal there."""
    for node in graph.nodes:
        if node.operator not in FUNCTIONS:
            raise BenchmarkError(
                "{node!r}: {operator} is not written for PyTorch here",
                node=node.name,
                operator=node.operator,
            )


def to_tensor(array: Array, memory_format: Any) -> Tensor:
    """Return a copy of a parameter or of pictures, as PyTorch has them.

    [N, H, W, C] → [N, C, H, W] and [OC, KH, KW, IC] → [OC, IC, KH, KW], in that order of memory.
    """
    import torch

    if array.ndim == 4:
        stored = torch.from_numpy(np.array(array.transpose(0, 3, 1, 2), order="C"))
        return stored.contiguous(memory_format=memory_format)
    return torch.from_numpy(np.array(array))


def torch_functional() -> Any:
    """Return ``torch.nn.functional``; nothing here loads PyTorch before it is needed."""
    import torch

    return torch.nn.functional


# --- operators: f is torch.nn.functional, then inputs and attributes as ours have them ----------


def _padded(f: Any, x: Tensor, padding: tuple[int, ...], filling: float) -> tuple[Tensor, Any]:
    """Return x, and the padding that is left for the operator, the same on opposite sides."""
    top, bottom, left, right = padding
    if top == bottom and left == right:
        return x, (top, left)
    return f.pad(x, (left, right, top, bottom), value=filling), (0, 0)


def _convolution(f: Any, x: Tensor, weight: Tensor, *bias: Tensor, **options: Any) -> Tensor:
    x, padding = _padded(f, x, options["padding"], 0.0)
    return f.conv2d(
        x,
        weight,
        *bias,
        stride=options["stride"],
        padding=padding,
        dilation=options["dilation"],
        groups=options["groups"],
    )


def _max_pooling(f: Any, x: Tensor, *, kernel: Any, stride: Any, padding: Any) -> Tensor:
    x, padding = _padded(f, x, padding, float("-inf"))
    return f.max_pool2d(x, kernel, stride=stride, padding=padding)


def _average_pooling(
    f: Any, x: Tensor, *, kernel: Any, stride: Any, padding: Any, count_include_pad: bool
) -> Tensor:
    top, bottom, left, right = padding
    if (top, left) != (bottom, right):
        raise BenchmarkError(
            "PyTorch has no average pooling with padding {padding}", padding=padding
        )
    return f.avg_pool2d(
        x, kernel, stride=stride, padding=(top, left), count_include_pad=count_include_pad
    )


def _batch_norm(f: Any, x: Tensor, *statistics: Tensor, epsilon: float) -> Tensor:
    weight, bias, mean, variance = statistics
    return f.batch_norm(x, mean, variance, weight, bias, eps=epsilon)


def _zero_padding_shortcut(f: Any, x: Tensor, *, stride: int, channels: int) -> Tensor:
    added = channels - x.shape[1]
    return f.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, added // 2, added - added // 2))


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "relu": lambda f, x: f.relu(x),
    "leaky_relu": lambda f, x, slope: f.leaky_relu(x, slope),
    "prelu": lambda f, x, weight: f.prelu(x, weight),
    "sigmoid": lambda f, x: x.sigmoid(),
    "tanh": lambda f, x: x.tanh(),
    "max_pooling": _max_pooling,
    "average_pooling": _average_pooling,
    "global_average_pooling": lambda f, x: x.mean((2, 3)),
    "add": lambda f, a, b: a + b,
    "zero_padding_shortcut": _zero_padding_shortcut,
    "linear": lambda f, x, weight, *bias: f.linear(x, weight, *bias),
    "softmax": lambda f, x: x.softmax(1),
}

# For a first input that nothing else reads.
IN_PLACE: Mapping[str, Callable[..., Tensor]] = {
    "relu": lambda f, x: x.relu_(),
    "add": lambda f, a, b: a.add_(b),
}
