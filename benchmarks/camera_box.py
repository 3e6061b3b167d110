"""How many camera frames a second a machine answers, and in how much memory, model by model.

Run: python benchmarks/camera_box.py [--models default INT8_FOLDER …] [--threads 1 2] [--seconds 4]
For each model and number of threads, a process of its own loads the model and answers frames
(NV12 of ``--size``, sixteen different ones in turn, one at a time, as a camera gives them):

    frames/s    frame in, named answer out
    limit       the network alone, on inputs that are ready: what no frame path can exceed
    reading     from the frame to the network's input, on one thread
    peak        memory of the whole process, with Python and the sixteen frames

The models are those that ``lushan.load`` takes; ``@NAME`` is the published architecture NAME with
random weights, ``@NAME:int8`` the same quantised: they cost what trained ones do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

FRAMES = 16
VIDEO = "NV12"


def rate(call: Callable[[int], object], seconds: float) -> float:
    """Return calls a second, after a few that do not count."""
    for number in range(3):
        call(number)
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        call(count)
        count += 1
    return count / passed


def measure(model: str, threads: int, size: tuple[int, int], seconds: float) -> None:
    import lushan

    width, height = size
    random = np.random.default_rng(0)
    length = width * height * 3 // 2 + width
    frames = [
        lushan.Frame.from_bytes(
            random.integers(0, 256, length, np.uint8).tobytes(), VIDEO, width, height
        )
        for _ in range(FRAMES)
    ]
    with lushan.load(model, threads=threads) as recognizer:
        answered = rate(lambda n: recognizer.classify(frames[n % FRAMES]), seconds)
        prepared = [recognizer.prepare(frame)[0][None] for frame in frames[:4]]
        limit = rate(lambda n: recognizer.scores(prepared[n % 4]), seconds)
        reading = rate(lambda n: recognizer.prepare(frames[n % FRAMES]), seconds / 4)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(
        f"{threads} thread{'s' if threads > 1 else ' '}  {answered:7.1f} frames/s  limit "
        f"{limit:7.1f}  ({answered / limit:.0%})  reading {1e3 / reading:.2f} ms  peak "
        f"{peak / 1024:.0f} MiB"
    )


def made(word: str, folder: Path) -> str:
    """Return what ``lushan.load`` takes for ``word``: random weights are written to ``folder``."""
    if not word.startswith("@"):
        return word
    from lushan.models.checkpoint import from_parameters
    from lushan.models.model_folder import write_model_folder
    from lushan.models.zoo import random_model
    from lushan.quantization.quantized_model import quantize_on_noise

    name, _, precision = word[1:].partition(":")
    model = random_model(name, seed=0)
    if precision == "int8":
        model = quantize_on_noise(model, seed=0)
    target = folder / word[1:].replace(":", "-")
    write_model_folder(target, model.config, from_parameters(model.weights))
    return str(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["default", "@resnet18:int8", "@resnet50:int8"]
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    if arguments.measure:
        [threads] = arguments.threads
        measure(arguments.measure, threads, (width, height), arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        for word in arguments.models:
            model = made(word, Path(folder))
            for threads in arguments.threads:
                command = [sys.executable, __file__, "--size", arguments.size]
                command += ["--seconds", str(arguments.seconds), "--threads", str(threads)]
                subprocess.run(
                    [*command, "--measure", model], check=True, stdout=subprocess.PIPE
                )  # fills the caches of kernels and packed weights
                result = subprocess.run(
                    [*command, "--measure", model], check=True, capture_output=True, text=True
                )
                print(f"{word:<18} {result.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
