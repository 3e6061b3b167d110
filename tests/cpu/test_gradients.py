"""Every operator of a training step, alone, against its meaning in float64; then whole steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lushan.cpu import executor
from lushan.cpu.gradient_rules import GRADIENT_RULES
from lushan.cpu.target import Target
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from support.compare import relative_rms
from support.planes import channels

pytestmark = pytest.mark.usefixtures("poison")
Array = np.ndarray[Any, Any]
batch, size = st.integers(1, 3), st.integers(1, 12)
small = st.integers(1, 3)


class One:
    """A graph of one node; its inputs are inputs of the graph, unless they are parameters."""

    def __init__(self, operator: str, seed: int, outputs: int = 1, **attributes: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.operator, self.attributes = operator, attributes
        self.outputs = [f"y{number}" for number in range(outputs)]
        self.builder = GraphBuilder()
        self.inputs: dict[str, Array] = {}
        self.parameters: dict[str, Array] = {}
        self.names: list[str] = []
        self.updates: list[str] = []

    def add(self, array: Array, *, parameter: bool = False, updated: bool = False) -> None:
        name = f"x{len(self.names)}"
        dtype = str(array.dtype)
        if parameter or updated:
            self.builder.parameter(name, array.shape)
            self.parameters[name] = array
        else:
            self.builder.input(name, array.shape, dtype)
            self.inputs[name] = array
        self.names.append(name)
        self.updates += [name] * updated

    def normal(self, *shape: int, **kind: bool) -> None:
        self.add(self.random.standard_normal(shape, np.float32), **kind)

    def positive(self, *shape: int, **kind: bool) -> None:
        self.add(self.random.uniform(0.3, 2, shape).astype(np.float32), **kind)

    def check(self, target: Target, most: float = 2e-6) -> None:
        """Compare all outputs, and parameters that are updated."""
        self.builder.node(
            self.operator,
            tuple(self.names),
            self.outputs[0],
            more_outputs=tuple(self.outputs[1:]),
            updates=tuple(self.updates),
            **self.attributes,
        )
        graph = self.builder.build(*self.outputs)
        program = executor.compile(graph, self.parameters, threads=2, target=target)
        ours = program(self.inputs)
        exact = interpret.compile(graph, doubled(self.parameters))
        expected = exact(doubled(self.inputs))
        for name in self.outputs:
            assert relative_rms(ours[name], expected[name]) <= most, name
        for name in self.updates:
            assert relative_rms(program.parameters[name], exact.parameters[name]) <= most, name


def doubled(arrays: dict[str, Array]) -> dict[str, Array]:
    return {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in arrays.items()
    }


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of x and of a weight, and the attributes of a convolution that fits them."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    ic = groups * draw(st.sampled_from([1, 2, 3, 5, 16, 20, 48]))
    oc = groups * draw(st.sampled_from([1, 3, 8, 16, 17, 32, 50, 64, 70]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    options: dict[str, Any] = {
        "stride": draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1), (1, 2)])),
        "padding": tuple(draw(st.integers(0, 3)) for _ in range(4)),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "groups": groups,
    }
    x = (draw(batch), draw(st.integers(7, 14)), draw(st.integers(7, 20)), ic)
    return x, (oc, *kernel, ic // groups), options


def output_shape(
    x: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any]
) -> tuple[int, ...]:
    arrays = (np.zeros(shape, np.float32) for shape in (x, weight))
    return interpret.MEANINGS["convolution"](*arrays, **options).shape


@given(case=convolutions(), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_convolution_by_its_weight(target: Target, case: Any, seed: int) -> None:
    x, weight, options = case
    one = One("convolution_backward_weight", seed, kernel=weight[1:3], **options)
    one.normal(*output_shape(*case))
    one.normal(*x)
    one.check(target)


@given(case=convolutions(), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_convolution_by_its_input(target: Target, case: Any, seed: int) -> None:
    x, weight, options = case
    one = One("convolution_backward_input", seed, **options)
    one.normal(*output_shape(*case))
    one.normal(*weight, parameter=True)
    one.normal(*x)
    one.check(target)


@pytest.mark.parametrize("shape", [(128, 32, 32, 16), (4, 56, 56, 64), (16, 7, 7, 512)])
def test_long_sums_stay_accurate(target: Target, shape: tuple[int, ...]) -> None:
    """131,072 terms: a plain float32 sum is off by three times what is allowed."""
    window = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    one = One("convolution_backward_weight", 0, kernel=(3, 3), **window)
    one.normal(*shape[:3], 16)
    one.normal(*shape)
    one.check(target)


@given(n=st.integers(1, 40), ic=channels, oc=channels, seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_linear(target: Target, n: int, ic: int, oc: int, seed: int) -> None:
    by_input = One("linear_backward_input", seed)
    by_input.normal(n, oc)
    by_input.normal(oc, ic, parameter=True)
    by_input.check(target)
    by_weight = One("linear_backward_weight", seed)
    by_weight.normal(n, oc)
    by_weight.normal(n, ic)
    by_weight.check(target)


@given(n=batch, h=size, w=size, c=channels, seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_batch_norm(target: Target, n: int, h: int, w: int, c: int, seed: int) -> None:
    n += n * h * w == 1  # one pixel has no variance
    one = One("batch_norm_training", seed, outputs=3, epsilon=1e-5, momentum=0.1)
    one.normal(n, h, w, c)
    one.positive(c, parameter=True)
    one.normal(c, parameter=True)
    one.normal(c, updated=True)
    one.positive(c, updated=True)
    one.check(target, 4e-6 if n * h * w < 4 else 2e-6)  # deviations of a few pixels cancel
    for operator in ("batch_norm_training_backward", "batch_norm_backward"):
        back = One(operator, seed, outputs=3, epsilon=1e-5)
        back.normal(n, h, w, c)
        back.normal(n, h, w, c)
        back.normal(c, parameter=True)
        given_ = operator == "batch_norm_backward"
        back.normal(c, parameter=given_)
        back.positive(c, parameter=given_)
        back.check(target)


def test_statistics_of_numbers_far_from_0(target: Target) -> None:
    one = One("batch_norm_training", 0, outputs=3, epsilon=1e-5, momentum=0.1)
    far = 1000 + one.random.standard_normal((4, 16, 16, 20), np.float32)
    one.add(far.astype(np.float32))
    for kind in ({"parameter": True}, {"parameter": True}, {"updated": True}, {"updated": True}):
        one.positive(20, **kind)
    # y = scale · x + shift: what is left of 1000 has three digits less.
    one.check(target, 1e-4)


@given(n=batch, h=size, w=size, c=channels, seed=st.integers(0, 2**31))
@settings(max_examples=10)
def test_activations(target: Target, n: int, h: int, w: int, c: int, seed: int) -> None:
    for operator in ("relu", "leaky_relu", "sigmoid", "tanh"):
        one = One(f"{operator}_backward", seed, **({"slope": 0.1} if "leaky" in operator else {}))
        one.normal(n, h, w, c)
        one.normal(n, h, w, c)
        one.check(target)
    prelu = One("prelu_backward", seed, outputs=2)
    prelu.normal(n, h, w, c)
    prelu.normal(n, h, w, c)
    prelu.normal(c, parameter=True)
    prelu.check(target)
    total = One("channel_sum", seed)
    total.normal(n, h, w, c)
    total.check(target)


@given(n=batch, h=st.integers(3, 12), w=st.integers(3, 12), c=channels, data=st.data())
@settings(max_examples=10)
def test_pooling(target: Target, n: int, h: int, w: int, c: int, data: st.DataObject) -> None:
    kernel = (data.draw(small), data.draw(small))
    window: dict[str, Any] = {
        "kernel": kernel,
        "stride": (data.draw(small), data.draw(small)),
        "padding": tuple(data.draw(st.integers(0, k - 1)) for k in kernel for _ in range(2)),
    }
    seed = data.draw(st.integers(0, 2**31))
    x = np.random.default_rng(seed).standard_normal((n, h, w, c), np.float32)
    y, _ = interpret.MEANINGS["max_pooling"](x, **window)
    one = average(seed, y.shape, x, data.draw(st.booleans()), window)
    one.check(target)
    everything = One("global_average_pooling_backward", seed)
    everything.normal(n, c)
    everything.add(x)
    everything.check(target)
    graph, weights = max_pooling_graph(c, window)
    values = {"x": x, "grad_y": np.cos(y)}
    ours = executor.compile(graph, weights, threads=2, target=target)(values)
    exact = interpret.compile(graph, weights)(doubled(values))
    assert relative_rms(ours["grad_x"], exact["grad_x"]) <= 2e-6


def average(seed: int, y: tuple[int, ...], x: Array, inside: bool, window: dict[str, Any]) -> One:
    one = One("average_pooling_backward", seed, count_include_pad=inside, **window)
    one.normal(*y)
    one.add(x)
    return one


def max_pooling_graph(c: int, window: dict[str, Any]) -> tuple[Graph, dict[str, Array]]:
    """Switches are no input of the CPU engine's: the forward pass makes them."""
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, c))
    grad_y = builder.input("grad_y", (None, None, None, c))
    builder.node("max_pooling", (x,), "y", more_outputs=("switches",), **window)
    return builder.build(
        builder.node("max_pooling_backward", (grad_y, "switches", x), "grad_x")
    ), {}


@given(n=batch, h=size, w=size, c=channels, more=st.integers(0, 40), stride=small)
@settings(max_examples=10)
def test_zero_padding_shortcut(
    target: Target, n: int, h: int, w: int, c: int, more: int, stride: int
) -> None:
    one = One("zero_padding_shortcut_backward", 0, stride=stride)
    one.normal(n, -(-h // stride), -(-w // stride), c + more)
    one.normal(n, h, w, c)
    one.check(target)


@given(n=st.integers(1, 40), k=channels, smoothing=st.sampled_from([0.0, 0.1, 1.0]),
       scale=st.sampled_from([1, 30]), seed=st.integers(0, 2**31))  # fmt: skip
@settings(max_examples=20)
def test_cross_entropy(
    target: Target, n: int, k: int, smoothing: float, scale: float, seed: int
) -> None:
    for operator in ("cross_entropy", "cross_entropy_backward"):
        one = One(operator, seed, label_smoothing=smoothing)
        one.add((scale * one.random.standard_normal((n, k))).astype(np.float32))
        one.add(one.random.dirichlet(np.ones(k), n).astype(np.float32))
        # Of one class or a sure answer the loss is nearly 0: what is left of a difference.
        exact = interpret.MEANINGS[operator](*one.inputs.values(), label_smoothing=smoothing)
        if np.abs(exact).max() > 1e-3:
            one.check(target, 4e-6)


def test_an_impossible_score_is_seen_in_the_loss(target: Target) -> None:
    for bad in (np.nan, np.inf):
        one = One("cross_entropy", 0, label_smoothing=0.0)
        scores = np.zeros((3, 20), np.float32)
        scores[1, 17] = bad
        one.add(scores)
        one.add(np.eye(20, dtype=np.float32)[:3])
        graph_loss = run(one, target)["y0"]
        assert not np.isfinite(graph_loss)


def run(one: One, target: Target) -> dict[str, Array]:
    one.builder.node(one.operator, tuple(one.names), "y0", **one.attributes)
    return executor.compile(one.builder.build("y0"), {}, target=target)(one.inputs)


@given(shape=st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple),
       seed=st.integers(0, 2**31))  # fmt: skip
@settings(max_examples=15)
def test_norms(target: Target, shape: tuple[int, ...], seed: int) -> None:
    if len(shape) == 3:
        shape = shape[:2]
    one = One("gradient_norm", seed)
    one.normal(*shape)
    one.check(target)
    total = One("total_norm", seed)
    for _ in range(7):
        total.positive()
    total.check(target)
    for most in (1e-3, 1.0, 100.0):
        factor = One("clipping_factor", seed, most=most)
        factor.positive()
        factor.check(target)


@given(shape=st.sampled_from([(7,), (70,), (20, 3, 3, 7), (64, 1, 1, 64), (10, 64)]),
       nesterov=st.booleans(), clipped=st.booleans(), seed=st.integers(0, 2**31))  # fmt: skip
@settings(max_examples=15)
def test_sgd(
    target: Target, shape: tuple[int, ...], nesterov: bool, clipped: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    builder = GraphBuilder()
    parameter, velocity = builder.parameter("p", shape), builder.parameter("v", shape)
    names = ("learning_rate", "momentum", "weight_decay", "factor")[: 3 + clipped]
    inputs = [builder.input("g", shape), *(builder.input(name, ()) for name in names)]
    graph = builder.build(builder.node("gradient_norm", ("g",), "norm"))
    from lushan.graph.ir import make_node

    node = make_node("sgd", (parameter, velocity, *inputs), (), updates=("p", "v"),
                     nesterov=nesterov)  # fmt: skip
    graph = replace(graph, nodes=(*graph.nodes, node))
    weights = {name: random.standard_normal(shape, np.float32) for name in ("p", "v")}
    values = {"g": random.standard_normal(shape, np.float32)}
    values |= {name: np.asarray(random.uniform(0.01, 1), np.float32) for name in names}
    program = executor.compile(graph, weights, threads=2, target=target)
    exact = interpret.compile(graph, doubled(weights))
    program(values)
    exact(doubled(values))
    for name in weights:
        assert relative_rms(program.parameters[name], exact.parameters[name]) <= 2e-6


def test_every_operator_of_training_has_a_rule() -> None:
    from lushan.graph.gradient_meanings import GRADIENT_MEANINGS

    more = {"batch_norm_training", "cross_entropy"}
    assert GRADIENT_RULES.keys() == GRADIENT_MEANINGS.keys() | more
