"""Small graphs that have every operator among them, with what is around it in networks.

Each takes pictures "x" [N, H, W, 3]. Together they lower to every kind of kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph

NO_PADDING = (0, 0, 0, 0)


def window(kernel: int, stride: int = 1, padding: tuple[int, ...] = NO_PADDING) -> dict:
    return {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": padding}


def build_direct(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    """A stem, a strided window, dilation, groups, and every activation behind a sum."""
    y = builder.node("relu", (builder.convolution(x, "stem", 24, kernel=7, stride=2),), "relu")
    options = {"stride": (1, 2), "padding": (2, 1, 0, 3), "dilation": (2, 1), "groups": 3}
    weight = builder.parameter("grouped.weight", (30, 3, 2, 8))
    outputs = [builder.node("convolution", (y, weight), "grouped", **options)]
    for name in ("leaky_relu", "sigmoid", "tanh"):
        branch = builder.convolution(y, f"{name}.conv", 24, kernel=1, bias=True)
        added = builder.node("add", (branch, y), f"{name}.add")
        attributes = {"slope": 0.125} if name == "leaky_relu" else {}
        outputs.append(builder.node(name, (added,), name, **attributes))
    return tuple(outputs)


def build_winograd(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    """Layers with one vector and two, tiles that overlap, and a shortcut."""
    y = builder.convolution(x, "wide", 64, kernel=1)
    a = builder.node("relu", (builder.convolution(y, "a", 64, kernel=3),), "relu")
    b = builder.node("add", (builder.convolution(a, "b", 64, kernel=3), y), "sum")
    return builder.node("relu", (b,), "out"), builder.convolution(b, "narrow", 20, kernel=3)


def build_pooling(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    slide = window(3, 2, (1, 1, 1, 1))
    y = builder.node("prelu", (x, builder.parameter("slope", (3,))), "prelu")
    builder.node("max_pooling", (y,), "max", more_outputs=("switches",), **slide)
    means = [
        builder.node("average_pooling", (y,), f"mean{inside}", count_include_pad=inside, **slide)
        for inside in (False, True)
    ]
    return "max", "switches", *means, builder.node("global_average_pooling", (y,), "global")


def build_transposed(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    before = builder.convolution(x, "before", 6, kernel=3)
    weight = builder.parameter("up.weight", (6, 3, 3, 10))
    bias = builder.parameter("up.bias", (10,))
    up = builder.node(
        "transposed_convolution",
        (before, weight, bias),
        "up",
        stride=(2, 2),
        padding=(1, 1, 1, 1),
        dilation=(1, 1),
        groups=1,
        output_padding=(1, 1),
    )
    return (builder.convolution(up, "after", 5, kernel=3, padding=2),)


def build_switches(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    builder.node(
        "max_pooling", (x,), "pool", more_outputs=("switches",), **window(3, 2, (1, 1, 1, 1))
    )
    return builder.convolution("pool", "after", 4, kernel=3), "switches"


def build_shortcut(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    y = builder.convolution(x, "y", 6, kernel=3)
    short = builder.node("zero_padding_shortcut", (y,), "short", stride=2, channels=9)
    return (
        builder.node("add", (short, builder.convolution(y, "b", 9, kernel=1, stride=2)), "sum"),
    )


def build_softmax(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    pooled = builder.node("global_average_pooling", (x,), "pooled")
    return (builder.node("softmax", (builder.linear(pooled, "fc", 37),), "probabilities"),)


def build_batch_norm_after_pooling(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    pooled = builder.node("average_pooling", (x,), "pool", count_include_pad=True, **window(2, 2))
    normal = builder.batch_norm(pooled, "bn")
    return (builder.convolution(normal, "after", 7, kernel=3),)


def build_paddings(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    """One value read with padding 0, 1 and 3, dilated, and by pooling."""
    y = builder.convolution(x, "y", 6, kernel=1, bias=True)
    outputs = [
        builder.convolution(y, f"padded_{padding}", 5, kernel=3, padding=padding)
        for padding in (0, 1, 3)
    ]
    weight = builder.parameter("dilated.weight", (5, 3, 2, 6))
    outputs.append(
        builder.node(
            "convolution",
            (y, weight),
            "dilated",
            stride=(2, 1),
            padding=(2, 0, 1, 3),
            dilation=(2, 3),
            groups=1,
        )
    )
    outputs.append(builder.node("max_pooling", (y,), "pool", **window(3, 1, (1, 1, 1, 1))))
    return tuple(outputs)


def build_residual_with_halo(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    """Blocks whose shortcut is padded for its other reader, and whose sum is padded in turn."""
    for index in range(3):
        branch = builder.convolution(x, f"a{index}", 6, kernel=3)
        branch = builder.node("relu", (branch,), f"r{index}")
        branch = builder.convolution(branch, f"b{index}", builder.channels(x), kernel=3)
        x = builder.node("add", (x, branch), f"s{index}")
        x = builder.node("leaky_relu", (x,), f"l{index}", slope=0.2)
    return (x,)


def build_groups(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    y = builder.convolution(x, "y", 6, kernel=1)
    weight = builder.parameter("grouped.weight", (9, 3, 3, 2))
    return (
        builder.node(
            "convolution",
            (y, weight),
            "grouped",
            stride=(1, 1),
            padding=(1, 1, 1, 1),
            dilation=(1, 1),
            groups=3,
        ),
    )


def build_input_is_output(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    """The input itself, its padded reader, and two neighbours of the input."""
    return x, builder.convolution(x, "c", 4, kernel=5), builder.node("tanh", (x,), "t"), "c"


def build_same_twice(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    y = builder.convolution(x, "y", 5, kernel=3)
    return (builder.node("add", (y, y), "twice"),)


def _graph(build: Callable[[GraphBuilder, str], tuple[str, ...]]) -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, 3))
    return builder.build(*build(builder, x))


OPERATOR_GRAPHS = {
    name.removeprefix("build_"): _graph(value)
    for name, value in sorted(globals().items())
    if name.startswith("build_")
}
