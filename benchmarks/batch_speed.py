"""Pictures a second: ``lushan batch`` with two workers beside ``classify_many`` with two threads.

Run: python benchmarks/batch_speed.py DIR [--model default] [--workers 2] [--rounds 2]
Both recognise the pictures below DIR, in turn. The start of Ray is told apart, and counted in with
the whole command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lushan
from lushan.image.files import find_pictures


def many(folder: Path, model: str, threads: int) -> tuple[int, float]:
    """Return how many pictures one process recognised, and its seconds, without loading."""
    with lushan.load(model, threads=threads) as recognizer:
        began = time.perf_counter()
        count = sum(1 for _ in recognizer.classify_many(find_pictures(folder)))
        return count, time.perf_counter() - began


def batch(folder: Path, model: str, workers: int) -> tuple[dict[str, float], float]:
    """Return the summary of a batch, and the seconds of the whole command."""
    code = "from lushan.cli import main; main()"
    with tempfile.TemporaryDirectory() as output:
        options = ["-o", output, "--model", model, "--workers", str(workers), "--format", "json"]
        began = time.perf_counter()
        command = [sys.executable, "-c", code, "batch", str(folder), *options]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - began
    if result.returncode not in (0, 1):
        sys.exit("the batch failed")
    return json.loads(result.stdout), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"many": [], "batch": [], "with start": []}
    for _ in range(options.rounds):
        count, seconds = many(options.folder, options.model, options.workers)
        rates["many"].append(count / seconds)
        summary, whole = batch(options.folder, options.model, options.workers)
        if summary["pictures"] != count:
            sys.exit(f"{summary['pictures']} pictures in the batch, {count} in the folder")
        rates["batch"].append(summary["pictures_per_second"])
        rates["with start"].append(count / whole)
        print(
            f"{count} pictures: classify_many {rates['many'][-1]:.0f}/s, "
            f"batch {rates['batch'][-1]:.0f}/s "
            f"(start {summary['starting_seconds']:.1f} s, whole command {whole:.1f} s: "
            f"{rates['with start'][-1]:.0f}/s)"
        )
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"batch / classify_many: {middle['batch'] / middle['many']:.2f}, "
        f"whole command {middle['with start'] / middle['many']:.2f}"
    )


if __name__ == "__main__":
    main()
