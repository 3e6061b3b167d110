"""Random graphs of the family, with random weights, for properties that hold of every graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph


@dataclass(frozen=True)
class Case:
    graph: Graph
    weights: dict[str, np.ndarray]
    x: np.ndarray  # the value of the graph's one input, "input"


def random_weights(graph: Graph, seed: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Weights in which every parameter matters: no zero biases, no unit variances."""
    random = np.random.default_rng(seed)
    weights = {}
    for value in graph.parameters:
        shape = value.type.shape
        array = random.standard_normal(shape)
        if value.name.endswith(("running_var", "bn.weight")):
            array = random.uniform(0.5, 2, shape)
        elif len(shape) > 1:  # keeps the numbers of deep graphs near 1
            array *= (2 / np.prod(shape[1:])) ** 0.5
        weights[value.name] = array.astype(dtype)
    return weights


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A chain of random operators with side branches, ending in a classifier or a picture."""
    builder, x = _chain(draw, draw(st.integers(1, 7)))
    outputs = [x]
    if draw(st.booleans()):
        outputs.append(_classifier(draw, builder, x))
    return _case(draw, builder, *outputs)


@st.composite
def classifiers(draw: st.DrawFn) -> Case:
    """Such a chain whose only output is that of a classifier."""
    builder, x = _chain(draw, draw(st.integers(1, 5)))
    return _case(draw, builder, _classifier(draw, builder, x))


def _chain(draw: st.DrawFn, length: int) -> tuple[GraphBuilder, str]:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, draw(st.integers(1, 5))))
    for index in range(length):
        x = _STEPS[draw(st.sampled_from(sorted(_STEPS)))](draw, builder, x, f"n{index}")
    return builder, x


def _classifier(draw: st.DrawFn, builder: GraphBuilder, x: str) -> str:
    pooled = builder.node("global_average_pooling", (x,), "pooled")
    return builder.linear(pooled, "fc", draw(st.integers(1, 6)))


def _case(draw: st.DrawFn, builder: GraphBuilder, *outputs: str) -> Case:
    graph = builder.build(*outputs)
    seed = draw(st.integers(0, 2**31))
    shape = (draw(st.integers(1, 3)), draw(st.integers(8, 13)), draw(st.integers(8, 13)))
    picture = np.random.default_rng(seed + 1).standard_normal(
        (*shape, builder.channels("input")), np.float32
    )
    return Case(graph, random_weights(graph, seed), picture)


def _convolution(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    return builder.convolution(
        x,
        f"{name}.conv",
        draw(st.integers(1, 6)),
        kernel=draw(st.sampled_from([1, 3])),
        bias=draw(st.booleans()),
    )


def _batch_norm(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    return builder.batch_norm(x, f"{name}.bn")


def _convolution_batch_norm(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    return _batch_norm(draw, builder, _convolution(draw, builder, x, name), name)


def _activation(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    operator = draw(st.sampled_from(["relu", "leaky_relu", "prelu", "sigmoid", "tanh"]))
    if operator == "prelu":
        return builder.prelu(x, name)
    attributes = {"slope": 0.1} if operator == "leaky_relu" else {}
    return builder.node(operator, (x,), name, **attributes)


def _pooling(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1)}
    if draw(st.booleans()):
        return builder.node("max_pooling", (x,), name, **window)
    inside = draw(st.booleans())
    return builder.node("average_pooling", (x,), name, count_include_pad=inside, **window)


def _residual(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    """Two readers of one value: what a pass must not break."""
    branch = builder.convolution(x, f"{name}.branch", builder.channels(x), kernel=3)
    if draw(st.booleans()):
        branch = builder.batch_norm(branch, f"{name}.bn")
    return builder.node("add", (branch, x), f"{name}.add")


def _forked_batch_norm(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    """A convolution that batch norm and something else read: it must not be folded."""
    y = _convolution(draw, builder, x, name)
    return builder.node("add", (builder.batch_norm(y, f"{name}.bn"), y), f"{name}.add")


def _widening_shortcut(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str) -> str:
    channels = builder.channels(x) + draw(st.integers(0, 3))
    return builder.node("zero_padding_shortcut", (x,), name, stride=1, channels=channels)


_STEPS = {
    "activation": _activation,
    "batch_norm": _batch_norm,
    "convolution": _convolution,
    "convolution_batch_norm": _convolution_batch_norm,
    "forked_batch_norm": _forked_batch_norm,
    "pooling": _pooling,
    "residual": _residual,
    "widening_shortcut": _widening_shortcut,
}
