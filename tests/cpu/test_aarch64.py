"""Kernels for 64-bit ARM, on whatever machine this is: they compile, and compute what they should.

That they compile is tested everywhere; that they compute, where an emulator is installed. It is no
ARM processor: it orders the memory accesses of threads as this machine does, and tells no speed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings

from lushan import passes
from lushan.cpu import executor
from lushan.cpu.code import code_store
from lushan.cpu.driver import Driver
from lushan.cpu.lower import Lowered, Options, lower
from lushan.cpu.packing import Packer, PackingKernel
from lushan.cpu.target import AARCH64, Target, detect
from lushan.cpu.task import Plane
from lushan.errors import UsageError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from support.compare import relative_error
from support.emulated_tasks import needs_emulator, object_file, run_emulated
from support.native_tasks import Memory, targets
from support.random_graphs import Case, cases, random_weights

ELF_AARCH64 = 183
Arrays = Mapping[str, np.ndarray]
OUTSIDE = " of the caller"  # what lowering calls the plane of an input


def lowered_for(target: Target, graph: Graph, weights: Arrays, inputs: Arrays) -> Lowered:
    """Lower ``graph`` for another machine, its weights packed by a target of this one.

    They lie in the same order for all that have as many lanes.
    """
    own = next(own for own in targets() if own.lanes == target.lanes)
    rewritten, folded = passes.apply(graph, weights)
    types = infer_types(rewritten, {name: array.shape for name, array in inputs.items()})
    packer = Packer(folded, own, code_store(own))
    return lower(rewritten, types, packer, target, Options(threads=2))


def symbols(elf: bytes) -> Iterator[tuple[str, bool]]:
    """Yield the name of each symbol of a 64-bit ELF file, and whether it is defined there."""
    (start,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQII", elf, start + size * i) for i in range(count)]
    for _, kind, _, _, offset, length, link, _ in sections:
        if kind == 2:  # the table of symbols; ``link`` has their names
            names = sections[link][4]
            for entry in range(offset + 24, offset + length, 24):  # the first is no symbol
                name, _, _, section = struct.unpack_from("<IBBH", elf, entry)
                text = elf[names + name : elf.index(b"\0", names + name)]
                yield text.decode(), section != 0


def check_objects(lowered: Lowered) -> int:
    """Compile every kernel, and return how many there are."""
    kernels = {task.kernel for step in lowered.steps for task in step.tasks}
    for kernel in (Driver(), PackingKernel(), *kernels):
        elf = object_file(kernel, "kernel", AARCH64)
        assert elf[:5] == b"\x7fELF\x02", kernel
        assert struct.unpack_from("<H", elf, 18)[0] == ELF_AARCH64, kernel
        found = dict(symbols(elf))
        assert found["kernel"], kernel
        assert all(found.values()), (kernel, found)
    return len(kernels)


def test_every_kernel_of_resnet50_compiles() -> None:
    graph = build(ARCHITECTURES["resnet50"])
    weights = {value.name: np.ones(value.type.shape, np.float32) for value in graph.parameters}
    lowered = lowered_for(AARCH64, graph, weights, {INPUT: np.empty((1, 224, 224, 3))})
    assert check_objects(lowered) > 20


@settings(max_examples=10)
@given(case=cases())
def test_every_kernel_of_random_graphs_compiles(case: Case) -> None:
    check_objects(lowered_for(AARCH64, case.graph, case.weights, {"input": case.x}))


def test_what_is_missing_would_be_found() -> None:
    """Without multiply-add instructions LLVM calls a function of the C library."""
    broken = Target("neon", AARCH64.triple, "generic", "-neon,-fp-armv8", 4, 32, True)
    elf = object_file(Driver(), "kernel", broken)
    assert all(dict(symbols(elf)).values())
    graph = one_operator(lambda builder, x: (builder.convolution(x, "c", 4, kernel=1),))
    inputs = {"x": np.ones((1, 2, 2, 3), np.float32)}
    lowered = lowered_for(AARCH64, graph, random_weights(graph, 0), inputs)
    kernel = lowered.steps[-1].tasks[-1].kernel
    found = dict(symbols(object_file(kernel, "kernel", broken)))
    assert [name for name, defined in found.items() if not defined] == ["fmaf"]


@pytest.mark.skipif(detect().is_aarch64, reason="this is such a machine")
def test_code_for_another_machine_is_not_run() -> None:
    graph = one_operator(lambda builder, x: (builder.node("relu", (x,), "y"),))
    with pytest.raises(UsageError, match="aarch64-unknown-linux-gnu"):
        executor.compile(graph, {}, target=AARCH64)


# --- under the emulator -------------------------------------------------------------------------


def emulate(graph: Graph, weights: Arrays, inputs: Arrays) -> dict[str, np.ndarray]:
    """Run ``graph`` under the emulator; every value has memory of its own, full of NaN before."""
    lowered = lowered_for(AARCH64, graph, weights, inputs)
    outside = {name + OUTSIDE: array for name, array in inputs.items()}
    callers = {Plane(name, array.shape): array for name, array in outside.items()}
    temporaries = [plane for step in lowered.steps for plane in step.temporaries]
    memory = Memory([*lowered.planes.values(), *callers, *temporaries])
    for plane, array in callers.items():
        memory.put(plane, array)
    run_emulated([task for step in lowered.steps for task in step.tasks], memory, AARCH64)
    return {name: memory.pixels(lowered.planes[name]) for name in graph.outputs}


def check(graph: Graph, inputs: Arrays, weights: Arrays | None = None, limit: float = 1e-5) -> None:
    """Compare every output with the reference in float64."""
    weights = random_weights(graph, seed=3) if weights is None else weights
    actual = emulate(graph, weights, inputs)
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    wide = {name: array.astype(np.float64) for name, array in inputs.items()}
    for name, expected in interpret.compile(graph, double)(wide).items():
        if expected.dtype == np.int64:
            np.testing.assert_array_equal(actual[name].copy().view(np.int64), expected)
        else:
            found = actual[name].reshape(expected.shape)
            assert relative_error(found, expected) <= limit, name


def one_operator(body: Callable[[GraphBuilder, str], tuple[str, ...]], channels: int = 3) -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", (None, None, None, channels))
    return builder.build(*body(builder, x))


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


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
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
    y = builder.node("prelu", (x, builder.parameter("slope", (3,))), "prelu")
    builder.node("max_pooling", (y,), "max", more_outputs=("switches",), **window)
    means = [
        builder.node("average_pooling", (y,), f"mean{inside}", count_include_pad=inside, **window)
        for inside in (False, True)
    ]
    return "max", "switches", *means, builder.node("global_average_pooling", (y,), "global")


def build_softmax(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    pooled = builder.node("global_average_pooling", (builder.batch_norm(x, "bn"),), "pooled")
    return (builder.node("softmax", (builder.linear(pooled, "fc", 37),), "probabilities"),)


def build_transposed(builder: GraphBuilder, x: str) -> tuple[str, ...]:
    options = {"stride": (2, 2), "padding": (1,) * 4, "dilation": (1, 1), "groups": 1}
    weight = builder.parameter("up.weight", (3, 3, 3, 10))
    up = builder.node("transposed_convolution", (x, weight), "up", output_padding=(1, 1), **options)
    return up, builder.node("zero_padding_shortcut", (x,), "short", stride=2, channels=5)


@needs_emulator
@pytest.mark.parametrize(
    "body",
    [value for name, value in sorted(globals().items()) if name.startswith("build_")],
    ids=lambda body: body.__name__[6:],
)
def test_operators_equal_the_reference(
    body: Callable[[GraphBuilder, str], tuple[str, ...]],
) -> None:
    check(one_operator(body), {"x": picture(2, 18, 21, 3)})


@needs_emulator
@settings(max_examples=5)
@given(case=cases())
def test_random_graphs_equal_the_reference(case: Case) -> None:
    check(case.graph, {"input": case.x}, case.weights)


@needs_emulator
@pytest.mark.parametrize(("name", "size"), [("resnet20_cifar", 32), ("resnet50", 49)])
def test_whole_networks_equal_the_reference(name: str, size: int) -> None:
    check(build(ARCHITECTURES[name]), {INPUT: picture(2, size, size, 3)}, limit=1e-4)
