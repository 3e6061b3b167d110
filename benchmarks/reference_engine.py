"""How long the reference engine takes, beside ONNX Runtime on the same graph, in turn.

Run: python benchmarks/reference_engine.py [MODEL …] [--batch 1] [--runs 7]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lushan import passes
from lushan.graph import interpret
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from lushan.models.zoo import natural_size

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.onnx_oracle import make_session


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["resnet50", "resnet18", "resnet20_cifar"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    for name in arguments.models:
        network = ARCHITECTURES[name]
        graph, weights = build(network), initial_weights(build(network), seed=0)
        shape = (arguments.batch, *natural_size(network), 3)
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        program = interpret.compile(*passes.apply(graph, weights))
        session = make_session(graph, weights, threads=0)
        nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        calls = {
            "reference": lambda program=program, x=x: program({INPUT: x}),
            "onnxruntime": lambda session=session, nchw=nchw: session.run(None, {INPUT: nchw}),
        }
        times: dict[str, list[float]] = {engine: [] for engine in calls}
        for turn in range(arguments.runs + 1):
            for engine, call in calls.items():
                spent = seconds(call)
                if turn:
                    times[engine].append(1000 * spent)
        medians = {engine: statistics.median(values) for engine, values in times.items()}
        print(
            f"{name:<16} batch {arguments.batch}: "
            + ", ".join(f"{engine} {median:.1f} ms" for engine, median in medians.items())
        )


if __name__ == "__main__":
    main()
