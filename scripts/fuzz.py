#!/usr/bin/env python
"""Damages a file at random, again and again, and has lushan read it.

    python scripts/fuzz.py weights FILE --count 2000 --seed 0

Every version must end in an answer or in an error that names the file. Prints how they ended, the
peak of memory and the slowest reading; exits with 1, and keeps the file, when one ended otherwise.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # as pytest does: run from a checkout

from lushan.errors import LushanError  # noqa: E402
from support.fuzzing import corruptions  # noqa: E402


def read_weights(path: Path) -> None:
    """Read the file as weights, whatever its format."""
    from lushan.models.checkpoint import read_tensors

    read_tensors(path)


READERS: dict[str, Callable[[Path], None]] = {"weights": read_weights}


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=READERS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    read = READERS[arguments.kind]

    data = arguments.file.read_bytes()
    read(arguments.file)
    before = _peak_megabytes()
    endings: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    folder = Path(tempfile.mkdtemp(prefix="lushan-fuzz-"))
    path = folder / arguments.file.name
    for number, damaged in enumerate(corruptions(data, arguments.count, arguments.seed)):
        path.write_bytes(damaged)
        start = time.perf_counter()
        try:
            read(path)
            endings["an answer"] += 1
        except LushanError as error:
            endings[error.template] += 1
            if str(path) not in str(error):
                endings["WITHOUT THE NAME OF THE FILE"] += 1
        except BaseException:
            traceback.print_exc()
            kept = path.rename(folder / f"{number}-{path.name}")
            print(f"kept: {kept}", file=sys.stderr)
            endings["A CRASH"] += 1
        slowest = max(slowest, time.perf_counter() - start)
    path.unlink(missing_ok=True)

    for ending, count in endings.most_common():
        print(f"{count:6}  {ending}")
    print(
        f"{len(data) / 2**20:.1f} MB file; peak of memory {before} MB for the sound file,", end=" "
    )
    print(f"{_peak_megabytes()} MB for all; slowest {slowest:.2f} s")
    return 1 if any(ending.isupper() for ending in endings) else 0


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
