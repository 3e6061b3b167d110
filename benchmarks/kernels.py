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
from enum import IntEnum
from pathlib import Path

import numpy as np

from lushan.cpu import llvm
from lushan.cpu.convolution import Argument, ConvolutionKernel, pack_weights
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.memory import WeightMemory
from lushan.cpu.target import LEVELS, Target, detect
from lushan.cpu.task import Argument as TaskArgument
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import choose_tile, choose_vectors
from lushan.cpu.winograd import is_suitable, pack_winograd_weights, winograd_tasks

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.native_tasks import Run, memory, prepare

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


def direct(x: Plane, y: Plane, weight: np.ndarray, bias: np.ndarray, target: Target) -> Task:
    """Return the direct convolution as one task of one chunk."""
    images, height, width, oc = y.shape
    ic = x.shape[3]
    tile = choose_tile(width, choose_vectors(oc, target), target)
    kernel = ConvolutionKernel((3, 1), 3 * ic, 0, ic, oc, oc, tile, False, "relu")
    packed, biases = pack_weights(weight, bias, tile.vectors * target.lanes)
    arguments: dict[IntEnum, TaskArgument] = {
        Argument.X: x.at(0),
        Argument.WEIGHTS: packed,
        Argument.BIAS: biases,
        Argument.Y: y.at(),
        Argument.X_ROW: x.row,
        Argument.X_KERNEL_ROW: x.row,
        Argument.Y_ROW: y.row,
        Argument.ROWS_PER_IMAGE: height,
        Argument.ROWS: images * height,
        Argument.X_IMAGE: x.image,
        Argument.Y_IMAGE: y.image,
        Argument.WIDTH: width,
        Argument.ROWS_PER_CHUNK: images * height,
        Argument.ROW_CHUNKS: 1,
        Argument.BLOCKS_PER_CHUNK: kernel.blocks(target),
        Argument.BLOCKS: kernel.blocks(target),
    }
    return Task(kernel, arguments, 1)


def layer(
    size: int, channels: int, batch: int, target: Target, *, cold: bool
) -> dict[str, list[Run]]:
    """Return runs of both kernels, so many with weights of their own if ``cold``."""
    random = np.random.default_rng(0)
    x = Plane("x", (batch, size, size, channels), (1, 1, 1, 1))
    y = Plane("y", (batch, size, size, channels))
    arrays = {"x": memory(x, random.standard_normal(x.shape, np.float32)), "y": memory(y)}
    weight = random.standard_normal((channels, 3, 3, channels), np.float32)
    bias = random.standard_normal(channels, np.float32)
    runs: dict[str, list[Run]] = {"direct": [], "winograd": []}
    packed, biases = pack_winograd_weights(weight, bias, target, WeightMemory().allocate)
    for _ in range(-(-COLD_BYTES // packed.nbytes) if cold else 1):
        own = packed.copy()
        tasks, planes = winograd_tasks(x, y, None, own, biases, target, activation="relu")
        arrays |= {plane.value: memory(plane) for plane in planes if plane.value not in arrays}
        runs["winograd"].append(prepare(tasks, arrays, target))
    for _ in range(-(-COLD_BYTES // weight.nbytes) if cold else 1):
        runs["direct"].append(prepare([direct(x, y, weight, bias, target)], arrays, target))
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
                spent = seconds(choices[turn % len(choices)])
                if turn:
                    times[name].append(spent)
        flop = 2 * arguments.batch * 9 * (size * channels) ** 2
        chosen = is_suitable(channels, channels, size, size, target)
        for name, values in times.items():
            median, least = statistics.median(values), min(values)
            print(
                f"{size:>3}x{size:<3} {channels:>4} {name:<9} median {1e3 * median:6.3f} ms"
                f"   least {1e3 * least:6.3f} ms   {1e-9 * flop / least:6.0f} GFLOP/s"
                + ("   chosen" if chosen == (name == "winograd") else "")
            )


if __name__ == "__main__":
    main()
