"""How much longer the first picture of a new size takes than the second, all kernels cached.

Run: python benchmarks/new_size.py [--model resnet50] [--threads 1] [--limit 50]
A process that is not measured fills the cache of kernels first. Then, for one size after another:
the first answer, the least of three more, and the difference, which is spent on the plan, on
loading kernels, and where a layer is computed in another way than before, on packing its weights
anew. It fails, with exit status 1, when a difference is more than ``--limit`` milliseconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from lushan.models.zoo import random_model
from lushan.recognizer import Recognizer

SIZES = (
    *(
        (256, 256),
        (192, 224),
        (288, 288),
        (320, 320),
        (200, 301),
        (384, 384),
        (352, 288),
        (448, 448),
    ),
    *((128, 128), (97, 65), (64, 64)),
)


def milliseconds(recognizer: Recognizer, x: np.ndarray) -> float:
    start = time.perf_counter()
    recognizer.scores(x)
    return 1e3 * (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="an architecture")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=50, help="milliseconds")
    parser.add_argument("--filling", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.filling:
        again = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--filling"]
        subprocess.run(again, check=True)
    worst = 0.0
    with Recognizer(random_model(options.model, seed=0), threads=options.threads) as recognizer:
        for height, width in SIZES:
            shape = (1, height, width, 3)
            x = np.random.default_rng(0).standard_normal(shape, np.float32)
            first = milliseconds(recognizer, x)
            later = min(milliseconds(recognizer, x) for _ in range(3))
            worst = max(worst, first - later)
            if not options.filling:
                size = f"{height}x{width}"
                print(
                    f"{size:<8} first {first:6.1f} ms   later {later:6.1f}   {first - later:+.1f}"
                )
    if options.filling:
        return 0
    verdict = "at most" if worst <= options.limit else "FAILED: more than"
    print(f"largest difference {worst:.1f} ms: {verdict} {options.limit:g}")
    return 0 if worst <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
