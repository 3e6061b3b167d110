"""How much longer the first picture of a new size takes than the second, all kernels compiled.

Run: python benchmarks/new_size.py [--models resnet50 resnet18] [--runs 5]
A first process meets every size, which compiles what is missing. Each further one is fresh, loads
the model at its own size and then meets the sizes one after the other: planning, and the weights
of layers that another algorithm suits better at that size. Medians of the fresh processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lushan.models.checkpoint import from_parameters
from lushan.models.model_folder import write_model_folder
from lushan.models.zoo import random_model

SIZES = (
    (96, 96),
    (160, 160),
    (192, 256),
    (225, 223),
    (256, 256),
    (288, 288),
    (320, 320),
    (448, 448),
)
PROGRAM = """
import json, sys, time
import lushan, numpy
recognizer = lushan.load("model")
random = numpy.random.default_rng(0)
times = []
for height, width in json.loads(sys.argv[1]):
    picture = random.standard_normal((1, height, width, 3), numpy.float32)
    times.append([])
    for _ in range(4):
        start = time.perf_counter()
        recognizer.scores(picture)
        times[-1].append(1e3 * (time.perf_counter() - start))
print(json.dumps(times))
"""


def fresh_process(folder: Path) -> list[list[float]]:
    """Return the milliseconds of the first four pictures of each size."""
    environment = {**os.environ, "LUSHAN_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", PROGRAM, json.dumps(SIZES)]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    times: list[list[float]] = json.loads(done.stdout)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnet18"])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print("milliseconds          first   second   first − second")
    for name in arguments.models:
        with tempfile.TemporaryDirectory(prefix="lushan-new-size-") as folder:
            model = random_model(name, seed=0)
            write_model_folder(Path(folder) / "model", model.config, from_parameters(model.weights))
            fresh_process(Path(folder))
            runs = [fresh_process(Path(folder)) for _ in range(arguments.runs)]
        for number, (height, width) in enumerate(SIZES):
            first = statistics.median(run[number][0] for run in runs)
            second = statistics.median(run[number][1] for run in runs)
            title = f"{name} {height}×{width}"
            print(f"{title:<18}{first:>9.1f}{second:>9.1f}{first - second:>12.1f}")


if __name__ == "__main__":
    main()
