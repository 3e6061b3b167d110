#!/usr/bin/env python
"""Damages files at random, again and again, and has lushan read them.

    python scripts/fuzz.py weights model.th --count 2000 --seed 0
    python scripts/fuzz.py pictures photos/*.jpg --count 2000
    python scripts/fuzz.py models int8/model.safetensors int8/config.json

``count`` is shared among the files. Every damaged file must end in an answer or in an error that
names it; in a model folder, where the other file stays sound, in an error that names the folder.
Prints how they ended, the peak of memory and the slowest reading; exits with 1, and keeps the file,
when one ended otherwise.
"""

from __future__ import annotations

import argparse
import collections
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # as pytest does: run from a checkout

from lushan.errors import LushanError  # noqa: E402
from support.fuzzing import corruptions  # noqa: E402


def read_weights(path: Path) -> None:
    """Read the file as weights, whatever its format."""
    from lushan.models.checkpoint import read_tensors

    read_tensors(path)


def read_picture(path: Path) -> None:
    """Read the file as a picture, up to what a network of 224×224 gets to see."""
    from lushan.image.decode import decode
    from lushan.image.preprocess import Preprocessing

    Preprocessing()(decode(path))


def read_model(path: Path) -> None:
    """Load the model folder that the file is in, and have it look at a small picture."""
    from lushan.engines import ENGINES
    from lushan.models.resnet_graph import INPUT
    from lushan.models.zoo import load_model

    model = load_model(path.parent)
    program = ENGINES["cpu"](model.graph, model.weights, threads=1)
    try:
        program({INPUT: np.ones((1, 32, 32, 3), np.float32)})
    finally:
        program.close()


READERS: dict[str, Callable[[Path], None]] = {
    "weights": read_weights,
    "pictures": read_picture,
    "models": read_model,
}


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=READERS)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    read = READERS[arguments.kind]

    for file in arguments.files:
        read(file)
    before = _peak_megabytes()
    endings: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    folder = Path(tempfile.mkdtemp(prefix="lushan-fuzz-"))
    for index, file in enumerate(arguments.files):
        count = len(range(index, arguments.count, len(arguments.files)))
        path = folder / file.name
        if read is read_model:
            shutil.copytree(file.parent, folder, dirs_exist_ok=True)
        for number, damaged in enumerate(
            corruptions(file.read_bytes(), count, arguments.seed + index)
        ):
            path.write_bytes(damaged)
            start = time.perf_counter()
            ending = _ending(read, path)
            slowest = max(slowest, time.perf_counter() - start)
            endings[ending] += 1
            if ending.isupper():
                print(f"kept: {path.rename(folder / f'{number}-{path.name}')}", file=sys.stderr)
        path.unlink(missing_ok=True)

    for ending, count in endings.most_common():
        print(f"{count:6}  {ending}")
    print(
        f"peak of memory {before} MB for the sound files, {_peak_megabytes()} MB for all;", end=" "
    )
    print(f"slowest {slowest:.2f} s")
    return 1 if any(ending.isupper() for ending in endings) else 0


def _ending(read: Callable[[Path], None], path: Path) -> str:
    """Read the file and say how that ended: in capitals, if as it should not."""
    try:
        read(path)
    except LushanError as error:
        name = path.parent if read is read_model else path
        return error.template if str(name) in str(error) else "AN ERROR WITHOUT THE NAME"
    except BaseException:
        traceback.print_exc()
        return "A CRASH"
    return "an answer"


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
