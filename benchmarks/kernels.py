"""How long single 3×3 layers take: direct convolution beside Winograd's, in turn, on one thread.

Run: python benchmarks/kernels.py [--runs 40] [--batch 1] [--level LEVEL] [--cold]
GFLOP/s counts the multiplications of the direct convolution for both, so Winograd's may pass the
peak, which is that of a loop of multiply-adds in registers in the same run. With ``--cold`` each
run has weights of its own, as in a network, where they have left the caches since the last picture.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lushan.cpu import llvm
from lushan.cpu.code import code_store
from lushan.cpu.convolution import Epilogue, convolution_task
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.memory import WeightMemory
from lushan.cpu.packing import PanelWriter
from lushan.cpu.sliding import Geometry
from lushan.cpu.target import LEVELS, Target, detect
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import choose_vectors
from lushan.cpu.winograd import suitable_outputs, winograd_tasks
from lushan.cpu.winograd_packing import winograd_shape, write_winograd_weights
from lushan.graph.weights import Factors

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.native_tasks import Memory, Runner

LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512), (32, 16), (16, 32), (8, 64))
COLD_BYTES = 200 * 2**20  # more than the caches hold


def seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak(target: Target) -> float:
    """Return GFLOP/s of multiply-adds that depend on nothing but themselves."""
    turns, chains = 200_000, target.registers - 4
    e = KernelEmitter("peak", target)
    place = e.absolute(0)
    number = e.load(place)

    def turn(_: Value, *sums: Value) -> list[Value]:
        return [e.fma(number, number, total) for total in sums]

    starts = [e.builder.fmul(number, e.splat(float(i))) for i in range(chains)]
    for total in e.loop(0, turns, turn, carried=starts):
        e.store(total, place)
    code = llvm.Code(target, {"peak": llvm.compile_object(e.text(), target)})
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        code.address("peak")
    )
    memory = np.zeros(16, np.float32)
    row = np.array([memory.ctypes.data], np.int64)
    least = min(seconds(lambda: function(0, row.ctypes.data, 0)) for _ in range(9))
    return 2e-9 * turns * chains * target.lanes / least


def direct(
    x: Plane, y: Plane, weight: np.ndarray, bias: np.ndarray, target: Target, writer: PanelWriter
) -> Task:
    """Return the direct convolution, with weights of its own."""
    vectors = choose_vectors(y.shape[3], target)
    packed = writer.reserve(weight.shape, vectors, WeightMemory().allocate)
    writer.write(Factors(weight, None), packed[0])
    packed[1].reshape(-1)[: len(bias)] = bias
    geometry = Geometry((1, 1), (1, 1, 1, 1), (1, 1))
    return convolution_task(
        x,
        y,
        geometry,
        packed,
        (3, 3),
        epilogue=Epilogue(activation="relu"),
        group=(0, 1),
        target=target,
    )


def layer(
    size: int, channels: int, batch: int, target: Target, *, cold: bool
) -> dict[str, list[Runner]]:
    """Return runs of both kernels, so many with weights of their own if ``cold``."""
    random = np.random.default_rng(0)
    x = Plane("x", (batch, size, size, channels), (1, 1, 1, 1))
    y = Plane("y", (batch, size, size, channels))
    weight = random.standard_normal((channels, 3, 3, channels), np.float32)
    bias = random.standard_normal(channels, np.float32)
    writer = PanelWriter(target, code_store(target))
    outputs = suitable_outputs(channels, channels, size, size, target) or 4

    def winograd(weights: np.ndarray) -> tuple[list[Task], list[Plane]]:
        options = {"activation": "relu"}
        return winograd_tasks(x, y, None, weights, bias, outputs, target, **options)

    packed = WeightMemory().allocate(winograd_shape(weight.shape, outputs, target))
    write_winograd_weights(Factors(weight, None), outputs, packed, writer)
    _, planes = winograd(packed)
    memory = Memory([x, y, *planes])
    memory.put(x, random.standard_normal(x.shape, np.float32), 0.0)
    runs: dict[str, list[Runner]] = {"direct": [], "winograd": []}
    for _ in range(-(-COLD_BYTES // packed.nbytes) if cold else 1):
        tasks, _ = winograd(packed.copy())
        runs["winograd"].append(Runner(tasks, memory, target))
    for _ in range(-(-COLD_BYTES // weight.nbytes) if cold else 1):
        task = direct(x, y, weight, bias, target, writer)
        runs["direct"].append(Runner([task], memory, target))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--level", choices=LEVELS)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    target = detect(arguments.level)
    print(f"{target.level}: peak {peak(target):.0f} GFLOP/s on one core")
    for size, channels in LAYERS:
        runs = layer(size, channels, arguments.batch, target, cold=arguments.cold)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(arguments.runs + 1):
            for name, choices in runs.items():
                spent = seconds(choices[turn % len(choices)].run)
                if turn:
                    times[name].append(spent)
        flop = 2 * arguments.batch * 9 * (size * channels) ** 2
        chosen = suitable_outputs(channels, channels, size, size, target) > 0
        for name, values in times.items():
            median, least = statistics.median(values), min(values)
            print(
                f"{size:>3}x{size:<3} {channels:>4} {name:<9} median {1e3 * median:6.3f} ms"
                f"   least {1e3 * least:6.3f} ms   {1e-9 * flop / least:6.0f} GFLOP/s"
                + ("   chosen" if chosen == (name == "winograd") else "")
            )


if __name__ == "__main__":
    main()
