"""Kernels for 64-bit ARM, on whatever machine this is: they compile, and compute what they should.

That they compile is tested everywhere; that they compute, where an emulator is installed. It is no
ARM processor: it orders the memory accesses of threads as this machine does, and tells no speed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from lushan.cpu import executor
from lushan.cpu.driver import Driver
from lushan.cpu.frame_kernel import FrameKernel
from lushan.cpu.lower import Lowered
from lushan.cpu.packing import PackingKernel
from lushan.cpu.target import AARCH64, Target, detect
from lushan.cpu.task import Plane
from lushan.cpu.winograd_packing import WinogradWeightKernel
from lushan.errors import UsageError
from lushan.graph import interpret
from lushan.graph.ir import Graph
from lushan.graph.training import RATES, one_hot, training_state, training_step
from lushan.image.frame_input import TERMS
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from support.compare import relative_error
from support.emulated_tasks import needs_emulator, object_file, run_emulated
from support.lowering import lowered_for
from support.native_tasks import Memory
from support.operator_graphs import OPERATOR_GRAPHS
from support.random_graphs import Case, cases, random_weights

ELF_AARCH64 = 183
BESIDE_TASKS = (
    Driver(),
    Driver(timed=True),
    PackingKernel(),
    WinogradWeightKernel(2),
    WinogradWeightKernel(4),
    FrameKernel((0, 1, 2), TERMS["ycbcr"]),
    FrameKernel((0, 1, 1), TERMS["ycbcr"]),
    FrameKernel((0, 0, 0), TERMS["ycbcr"]),
    FrameKernel((0,), TERMS["grey"]),
    FrameKernel((0, 0, 0), TERMS["rgb"]),
)
Arrays = Mapping[str, np.ndarray]
OUTSIDE = " of the caller"  # what lowering calls the plane of an input


def training(pooling: str) -> tuple[Graph, Arrays, Arrays]:
    """Return a training step of a small network, its state, and inputs."""
    network = ResNet("basic", (1, 1), (8, 6), classes=5, stem_channels=8, stem_pooling=pooling)
    graph = build(replace(network, shortcut="zero_padding" if pooling == "max" else "projection",
                          widths=(8, 12)))  # fmt: skip
    step = training_step(graph, label_smoothing=0.1, watch=True, clip=1.0)
    state = training_state(step, initial_weights(graph, seed=0))
    random = np.random.default_rng(1)
    inputs = {
        INPUT: random.standard_normal((3, 16, 18, 3), np.float32),
        "targets": one_hot(np.array([4, 0, 1]), 5),
        **{name: np.asarray(0.1, np.float32) for name in RATES},
    }
    return step, state, inputs


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
    for kernel in (*BESIDE_TASKS, *kernels):
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
    lowered = lowered_for(AARCH64, graph, weights, {INPUT: (1, 224, 224, 3)})
    assert check_objects(lowered) > 20


@settings(max_examples=10)
@given(case=cases())
def test_every_kernel_of_random_graphs_compiles(case: Case) -> None:
    check_objects(lowered_for(AARCH64, case.graph, case.weights, {"input": case.x.shape}))


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_kernel_of_a_training_step_compiles(pooling: str) -> None:
    step, state, inputs = training(pooling)
    shapes = {name: array.shape for name, array in inputs.items()}
    assert check_objects(lowered_for(AARCH64, step, state, shapes)) > 20


def test_what_is_missing_would_be_found() -> None:
    """Without multiply-add instructions LLVM calls a function of the C library."""
    broken = Target("neon", AARCH64.triple, "generic", "-neon,-fp-armv8", 4, 32, True)
    elf = object_file(Driver(), "kernel", broken)
    assert all(dict(symbols(elf)).values())
    graph = OPERATOR_GRAPHS["groups"]
    lowered = lowered_for(AARCH64, graph, random_weights(graph, 0), {"x": (1, 4, 4, 3)})
    kernel = lowered.steps[-1].tasks[-1].kernel
    found = dict(symbols(object_file(kernel, "kernel", broken)))
    assert [name for name, defined in found.items() if not defined] == ["fmaf"]


@pytest.mark.skipif(detect().is_aarch64, reason="this is such a machine")
def test_code_for_another_machine_is_not_run() -> None:
    graph = OPERATOR_GRAPHS["softmax"]
    with pytest.raises(UsageError, match="aarch64-unknown-linux-gnu"):
        executor.compile(graph, random_weights(graph, 0), target=AARCH64)


# --- under the emulator -------------------------------------------------------------------------


def emulate(graph: Graph, weights: Arrays, inputs: Arrays) -> dict[str, np.ndarray]:
    """Run ``graph`` under the emulator; every value has memory of its own, full of NaN before."""
    shapes = {name: array.shape for name, array in inputs.items()}
    lowered = lowered_for(AARCH64, graph, weights, shapes)
    outside = {
        name + OUTSIDE: array.reshape(lowered.planes[name].shape) for name, array in inputs.items()
    }
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


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


@needs_emulator
@pytest.mark.parametrize("name", OPERATOR_GRAPHS)
def test_operators_equal_the_reference(name: str) -> None:
    check(OPERATOR_GRAPHS[name], {"x": picture(2, 18, 21, 3)})


@needs_emulator
@settings(max_examples=5)
@given(case=cases())
def test_random_graphs_equal_the_reference(case: Case) -> None:
    check(case.graph, {"input": case.x}, case.weights)


@needs_emulator
@pytest.mark.parametrize(("name", "size"), [("resnet20_cifar", 32), ("resnet50", 49)])
def test_whole_networks_equal_the_reference(name: str, size: int) -> None:
    check(build(ARCHITECTURES[name]), {INPUT: picture(2, size, size, 3)}, limit=1e-4)


@needs_emulator
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_a_training_step_equals_the_reference(pooling: str) -> None:
    step, state, inputs = training(pooling)
    check(step, inputs, state, limit=1e-3)
