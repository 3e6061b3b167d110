"""What the tour of one picture costs: seconds, peak memory and the size of the page.

    python benchmarks/tour.py PICTURE [--models default resnet50] [--threads 2]

MODEL is a bundled name, a model folder, or a published architecture, which gets initial weights and
is saved as a model folder first. Every figure is that of a process of its own, from its start to
the written page: the first with an empty cache of kernels and packed weights, then warm ones, of
which the middle one counts. Timings only: nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lushan.models.checkpoint import from_parameters
from lushan.models.model_folder import write_model_folder
from lushan.models.resnet import ARCHITECTURES
from lushan.models.zoo import random_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--models", nargs="+", default=["default", "resnet50"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="warm runs")
    arguments = parser.parse_args()
    print(f"{'model':<20}{'cache':<8}{'seconds':>8}{'peak MB':>9}{'page MB':>9}")
    with tempfile.TemporaryDirectory(prefix="lushan-tour-") as name:
        folder = Path(name)
        for model in arguments.models:
            measure(model, model_folder(model, folder), folder, arguments)


def model_folder(model: str, folder: Path) -> str:
    """Return what ``lushan tour --model`` takes: initial weights are written to a folder."""
    if model not in ARCHITECTURES:
        return model
    initial = random_model(model, seed=1)
    write_model_folder(folder / model, initial.config, from_parameters(initial.weights))
    return str(folder / model)


def measure(model: str, name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Run the verb with an empty cache, then with a warm one, and print both."""
    page = folder / "tour.html"
    environment = {**os.environ, "LUSHAN_CACHE": str(folder / f"cache-{Path(model).name}")}
    command = [
        sys.executable, "-c", _CHILD, "tour", str(arguments.picture), "-o", str(page),
        "--model", name, "--threads", str(arguments.threads),
    ]  # fmt: skip
    runs = [once(command, environment) for _ in range(1 + arguments.repeats)]
    size = page.stat().st_size / 1e6
    first, *warm = runs
    seconds = statistics.median(run[0] for run in warm)
    peak = max(run[1] for run in warm)
    for cache, (taken, memory) in (("empty", first), ("warm", (seconds, peak))):
        print(f"{model:<20}{cache:<8}{taken:>8.2f}{memory:>9.0f}{size:>9.2f}")


_CHILD = """
import resource, sys
from lushan.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
"""


def once(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and peak memory in MB of one process."""
    start = time.perf_counter()
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, float(result.stderr.split()[-1])


if __name__ == "__main__":
    main()
