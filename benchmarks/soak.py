"""Whether memory grows with thousands of batches of random sizes through one recognizer.

Run: python benchmarks/soak.py [--model resnet20_cifar] [--runs 10000] [--largest 64] [--batch 8]
Every run has a batch, height and width of its own, so nearly every one needs a new plan. Printed at
every twentieth of the runs: the memory the process holds, the kernels compiled so far, milliseconds
of a run, most of them for the plan, and the slowest run. It fails, with exit status 1, when

* the greatest memory of the last quarter of the runs is more than 8 MiB above that of the quarter
  before it: growth has ended by then if it ends at all;
* kernels are still compiled in the last half;
* a picture that comes back every hundred runs gets another answer.

Linux only (/proc).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lushan.cpu.code import code_store
from lushan.cpu.target import detect
from lushan.models.zoo import random_model
from lushan.recognizer import Recognizer

GROWTH_BYTES = 8 * 2**20
REPORTS = 20
EVERY = 100  # runs between two of the picture that comes back


@dataclass
class Record:
    """What each run left behind: bytes held, kernels known; and the seconds it took."""

    held: list[int] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    other_answers: int = 0

    def line(self, start: int, stop: int) -> str:
        """Return a line about the runs from ``start`` to ``stop``."""
        seconds = self.seconds[start:stop]
        return (
            f"{stop:>6} runs  {max(self.held[start:stop]) / 2**20:7.1f} MiB  "
            f"{self.kernels[stop - 1]:>4} kernels  {1e3 * statistics.median(seconds):6.2f} ms a run"
            f"  slowest {1e3 * max(seconds):7.1f} ms"
        )

    def failures(self) -> list[str]:
        """Return what is not as it should be."""
        runs = len(self.held)
        half, quarter = runs // 2, -(-runs // 4)
        third, last = max(self.held[half : half + quarter]), max(self.held[half + quarter :])
        found = []
        if last - third > GROWTH_BYTES:
            found.append(f"memory grew by {(last - third) / 2**20:.1f} MiB in the last quarter")
        if self.kernels[-1] > self.kernels[half]:
            found.append(f"{self.kernels[-1] - self.kernels[half]} kernels in the last half")
        if self.other_answers:
            found.append(f"{self.other_answers} times another answer for the same picture")
        return found


def held_bytes() -> int:
    """Return the memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def soak(recognizer: Recognizer, runs: int, sizes: tuple[int, int], most: int, seed: int) -> Record:
    """Run random pictures, and print how it goes."""
    random = np.random.default_rng(seed)
    store = code_store(detect())
    smallest, largest = sizes
    middle = (smallest + largest) // 2
    known = random.standard_normal((1, middle, middle, 3), np.float32)
    expected = recognizer.scores(known).tobytes()
    numbers = random.standard_normal((most, largest, largest, 3), np.float32)
    record = Record()
    told = 0
    for number in range(runs):
        batch, height, width = (
            int(random.integers(low, high + 1)) for low, high in ((1, most), sizes, sizes)
        )
        x = np.ascontiguousarray(numbers[:batch, :height, :width])
        start = time.perf_counter()
        scores = recognizer.scores(x)
        record.seconds.append(time.perf_counter() - start)
        if not np.isfinite(scores).all():
            raise SystemExit(f"scores of {x.shape} are no numbers")
        if number % EVERY == 0:
            record.other_answers += recognizer.scores(known).tobytes() != expected
        record.held.append(held_bytes())
        record.kernels.append(store.kernels)
        if (number + 1) * REPORTS // runs > told:
            print(record.line(told * runs // REPORTS, number + 1), flush=True)
            told += 1
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20_cifar", help="an architecture")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--smallest", type=int, default=16, help="rows and columns")
    parser.add_argument("--largest", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="the largest")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with Recognizer(random_model(options.model, seed=0), threads=options.threads) as recognizer:
        sizes = options.smallest, options.largest
        record = soak(recognizer, options.runs, sizes, options.batch, options.seed)
    failures = record.failures()
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
