"""What training data costs: the check of all pictures, and a batch of them, varied and normalised.

Run: python benchmarks/training_data.py [DIR --config recipes/resnet20-cifar10.json] [--step 900]
DIR has a folder of pictures per class; without it, 2000 random ones are made. Batches are made in
this thread, one after the other: the milliseconds are those of one core. In a run, worker threads
make them while the step before runs. ``--step`` is how many pictures a second the steps alone train
here: where a batch takes more than a tenth of its step, this fails, with exit status 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lushan.bench.disturbance import Disturbance
from lushan.cores import usable_cores
from lushan.train.dataset import Sample, open_image_folder
from lushan.train.loader import TrainingBatches
from lushan.train.picture_check import PictureStore, check_pictures
from lushan.train.settings import Settings, read_settings
from lushan.train.starting_point import StartingPoint, configure

BOUND = 0.1  # of a step's time
RECIPE = Path(__file__).parents[1] / "recipes" / "resnet18-tiny-imagenet.json"


def write_random_pictures(folder: Path, classes: int, each: int, size: int) -> None:
    """Write noise with a colour of its own for each class, as JPEG."""
    random = np.random.default_rng(0)
    for label in range(classes):
        below = folder / f"class{label}"
        below.mkdir(parents=True)
        colour = random.integers(40, 216, 3)
        for index in range(each):
            pixels = np.clip(colour + random.normal(0, 40, (size, size, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(below / f"{index:05}.jpg")


def measure_check(samples: list[Sample], store: PictureStore) -> None:
    began = time.perf_counter()
    check_pictures(samples, store, threads=usable_cores())
    seconds = time.perf_counter() - began
    each = 1e6 * seconds / len(samples)
    print(f"check   {len(samples)} pictures in {seconds:.1f} s, {each:.0f} µs each")
    print(f"memory  {len(store)} of them are kept")


def measure_batches(batches: TrainingBatches, side: int, most: int) -> float:
    """Return the seconds of one picture, at so many rows and columns."""
    preprocessing = replace(batches.preprocessing, height=side, width=side)
    order = np.arange(len(batches.samples))
    times = []
    for number in range(min(most, batches.steps)):
        began = time.perf_counter()
        batches.make(order, 0, number, preprocessing)
        times.append(time.perf_counter() - began)
    middle = statistics.median(times)
    rate = batches.batch / middle
    print(f"batch   {batches.batch} of {side}x{side}: {1e3 * middle:.2f} ms, {rate:.0f} pictures/s")
    return middle / batches.batch


def measure(folder: Path, options: argparse.Namespace) -> float:
    """Measure, print, and return the seconds of the dearest picture."""
    settings = Settings.from_dict(read_settings(options.config))
    found = open_image_folder(folder)
    step = max(1, len(found.train) // (options.pictures or len(found.train)))
    samples = list(found.train[::step])
    store = PictureStore(options.cache * 2**20)
    measure_check(samples, store)
    start = StartingPoint.of(configure(settings, found.classes, {}))
    batches = TrainingBatches(
        samples,
        len(found.classes),
        store,
        start.preprocessing,
        settings.augmentation,
        batch=settings.batch,
        seed=0,
    )
    sides = sorted({side for _, side in settings.sizes} | {start.preprocessing.height})
    return max(measure_batches(batches, side, options.batches) for side in sides)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--config", type=Path, default=RECIPE)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--pictures", type=int, help="use so many, spread evenly; all without it")
    parser.add_argument("--cache", type=int, default=2048, help="MiB of decoded pictures")
    parser.add_argument("--step", type=float, help="pictures a second of the steps alone")
    options = parser.parse_args()
    disturbance = Disturbance()
    if options.folder:
        seconds = measure(options.folder, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_random_pictures(Path(folder), 10, 200, 64)
            seconds = measure(Path(folder), options)
    print(f"others kept {disturbance.cores() or 0:.2f} cores busy")
    if options.step:
        part = seconds * options.step
        print(f"{part:.1%} of a step at {options.step:g} pictures/s")
        sys.exit(part > BOUND)


if __name__ == "__main__":
    main()
