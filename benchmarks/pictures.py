"""Pictures to a network's input: decoding, then resizing by Pillow and by the kernel.

Run: python benchmarks/pictures.py FOLDER [--side 224] [--interpolation bicubic] [--runs 30]

On one thread, in turn, medians in milliseconds: decoding the file; resizing, cropping and
normalising by Pillow and NumPy; by the kernel; and by the kernel the first time for a size, when it
makes its tables. That both give the same bits is checked first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from lushan.cpu.picture_input import PictureReader
from lushan.image.decode import decode
from lushan.image.preprocess import Preprocessing


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Print a line for each picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--interpolation", default="bicubic")
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    preprocessing = Preprocessing(
        height=options.side, width=options.side, interpolation=options.interpolation
    )
    kept = PictureReader(preprocessing)
    print(f"{'picture':36} {'size':>11} {'decode':>8} {'pillow':>8} {'kernel':>8} {'new size':>8}")
    for path in sorted(path for path in options.folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        picture = decode(data)
        if not np.array_equal(kept(picture), preprocessing(picture)):
            raise SystemExit(f"{path}: the kernel gives other bits than Pillow")
        calls: tuple[Callable[[], object], ...] = (
            partial(decode, data),
            partial(preprocessing, picture),
            partial(kept, picture),
            lambda picture=picture: PictureReader(preprocessing)(picture),
        )
        rounds = [[timed(call) for call in calls] for _ in range(options.runs)]
        medians = " ".join(
            f"{statistics.median(times):8.2f}" for times in zip(*rounds, strict=True)
        )
        size = "×".join(map(str, picture.image.size))
        print(f"{path.name[:36]:36} {size:>11} {medians}")


if __name__ == "__main__":
    main()
