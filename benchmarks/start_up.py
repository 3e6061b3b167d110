"""How long a fresh process takes to start: ``import lushan`` and ``lushan --help``.

Run: python benchmarks/start_up.py [--runs 15]
Prints the median and the least of whole processes, beside an empty Python process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import lushan": [sys.executable, "-c", "import lushan"],
    "lushan --help": [str(Path(sys.executable).with_name("lushan")), "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):  # interleaved; the first turn warms the file cache
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"{name:<16} median {statistics.median(values):.3f} s   least {min(values):.3f} s")


if __name__ == "__main__":
    main()
