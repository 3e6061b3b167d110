"""The first losses of a training, beside PyTorch's: the same weights, batches and learning rates.

Run: python benchmarks/first_losses.py [DIR] [--config recipes/resnet20-cifar10.json] [--steps 50]
DIR has a folder of pictures per class; without it, batches are noise around a pattern for each
class. Both are trained step by step at the recipe's rate and at small ones, and the largest
difference of their losses is told after 1, 10, 25 and all steps. PyTorch is compared with itself
too, with its other order of memory, on one thread and, at the recipe's rate, in float64: how far
two right programs may be from each other. Two claims are checked, with exit status 1 where one
does not hold:

* in float64 (reference engine), at the recipe's rate, the losses are PyTorch's: ``FLOAT64_BOUND``;
* in float32 (CPU engine), at the smallest rate, they are PyTorch's: ``FLOAT32_BOUND``.

At a usual rate no two float32 programs agree: a number at the corner of a ReLU falls on either
side, and every step makes the difference larger. It needs PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lushan.bench.torch_network import to_tensor
from lushan.bench.torch_training import TorchTraining
from lushan.cpu import executor
from lushan.graph import interpret
from lushan.graph.ir import Graph
from lushan.graph.training import (
    RATES,
    TARGETS,
    TrainingProgram,
    UpdatingEngine,
    one_hot,
    training_state,
    training_step,
)
from lushan.models.initialize import initial_weights
from lushan.models.resnet_graph import INPUT
from lushan.train.dataset import open_image_folder
from lushan.train.loader import TrainingBatches
from lushan.train.picture_check import PictureStore
from lushan.train.settings import Settings, read_settings
from lushan.train.starting_point import StartingPoint, configure

FLOAT64_BOUND = 1e-9
FLOAT32_BOUND = 1e-3
SMALL_RATES = (2e-3, 2e-4)
RECIPE = Path(__file__).parents[1] / "recipes" / "resnet20-cifar10.json"
RECIPE_STEPS_OF_AN_EPOCH = 390  # of CIFAR-10 in batches of 128: where the recipe's rate stands
FLOAT64_BATCH = 16  # the reference engine takes its time
STORE_BYTES = 2**30

Rates = Sequence[Mapping[str, float]]  # of each step, by name
Batches = Sequence[tuple[np.ndarray, np.ndarray]]  # pictures [N, H, W, 3] and classes [N]


@dataclass(frozen=True)
class Training:
    """What all begin with and see."""

    graph: Graph
    weights: Mapping[str, np.ndarray]
    batches: Batches
    classes: int
    label_smoothing: float

    def ours(self, rates: Rates, engine: UpdatingEngine, dtype: type = np.float32) -> np.ndarray:
        """Return lushan's losses."""
        weights = {name: array.astype(dtype) for name, array in self.weights.items()}
        step = training_step(self.graph, label_smoothing=self.label_smoothing)
        program = TrainingProgram(step, training_state(step, weights), engine)
        losses = [
            program.step({INPUT: x, TARGETS: one_hot(labels, self.classes), **numbers})["loss"]
            for (x, labels), numbers in zip(self.batches, rates, strict=True)
        ]
        program.close()
        return np.array(losses, np.float64)

    def pytorch(
        self,
        rates: Rates,
        dtype: type = np.float32,
        *,
        channels_last: bool = False,
        threads: int | None = None,
    ) -> np.ndarray:
        """Return PyTorch's losses; all its threads if not told."""
        import torch

        usual = torch.get_num_threads()
        torch.set_num_threads(threads or usual)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        training = TorchTraining(
            self.graph,
            {name: array.astype(dtype) for name, array in self.weights.items()},
            memory_format=memory_format,
            label_smoothing=self.label_smoothing,
        )
        losses = [
            training.step(
                to_tensor(x.astype(dtype), memory_format), torch.from_numpy(labels), **numbers
            )
            for (x, labels), numbers in zip(self.batches, rates, strict=True)
        ]
        torch.set_num_threads(usual)
        return np.array(losses)


def of_patterns(settings: Settings, side: int, classes: int, steps: int) -> Iterator[Any]:
    """Yield batches of noise around a pattern of each class."""
    random = np.random.default_rng(settings.seed)
    patterns = random.standard_normal((classes, side, side, 3), np.float32)
    for _ in range(steps):
        labels = random.integers(0, classes, settings.batch)
        noise = random.standard_normal((settings.batch, side, side, 3), np.float32)
        yield patterns[labels] + noise, labels


def prepare(options: argparse.Namespace) -> tuple[Training, Rates]:
    """Return what is trained, and the recipe's rates for its first steps."""
    settings = Settings.from_dict(read_settings(options.config))
    found = open_image_folder(options.folder) if options.folder else None
    names = found.classes if found else [str(number) for number in range(options.classes)]
    start = StartingPoint.of(configure(settings, names, {}))
    batches: Batches
    if found:
        made = TrainingBatches(
            found.train,
            len(names),
            PictureStore(STORE_BYTES),
            start.preprocessing,
            settings.augmentation,
            batch=settings.batch,
            seed=settings.seed,
        )
        epoch = made.epoch(0)
        batches = [
            (b.pictures, b.labels) for b, _ in zip(epoch, range(options.steps), strict=False)
        ]
        epoch.close()
    else:
        side = start.preprocessing.height
        batches = list(of_patterns(settings, side, len(names), options.steps))
    training = Training(
        start.graph,
        initial_weights(start.graph, seed=settings.seed),
        batches,
        len(names),
        settings.label_smoothing,
    )
    whole = settings.epochs * RECIPE_STEPS_OF_AN_EPOCH
    rates = []
    for step in range(len(batches)):
        rate, momentum = settings.schedule.at(
            step, whole, learning_rate=settings.peak(), momentum=settings.momentum
        )
        rates.append(dict(zip(RATES, (rate, momentum, settings.weight_decay), strict=True)))
    return training, rates


def tell(title: str, one: np.ndarray, other: np.ndarray) -> float:
    """Print how far two runs of losses are from each other; return the largest difference."""
    differences = np.abs(one - other)
    places = [place for place in (1, 10, 25) if place < len(differences)]
    columns = [float(differences[:place].max()) for place in (*places, len(differences))]
    print(f"  {title:<44}" + "".join(f"{value:>10.1e}" for value in columns), flush=True)
    return columns[-1]  # NaN if there is one


def compare_in_float32(training: Training, rates: Rates, *, with_float64: bool) -> float:
    """Print how far pairs are from each other at some rates; return lushan's from PyTorch."""
    theirs = training.pytorch(rates)
    ours = training.ours(rates, executor.compile)
    most = tell("lushan, PyTorch", ours, theirs)
    tell("PyTorch channels_last, PyTorch", training.pytorch(rates, channels_last=True), theirs)
    tell("PyTorch on one thread, PyTorch", training.pytorch(rates, threads=1), theirs)
    if with_float64:
        exact = training.pytorch(rates, np.float64, channels_last=True)
        tell("lushan, PyTorch in float64", ours, exact)
        tell("PyTorch, PyTorch in float64", theirs, exact)
    print(f"  the loss goes from {ours[0]:.4f} to {ours[-5:].mean():.4f} (mean of the last 5)\n")
    return most


def compare_in_float64(training: Training, rates: Rates) -> float:
    """Print how far the reference engine is from PyTorch in float64, and return it."""
    small = [(x[:FLOAT64_BATCH], labels[:FLOAT64_BATCH]) for x, labels in training.batches]
    training = Training(
        training.graph, training.weights, small, training.classes, training.label_smoothing
    )
    ours = training.ours(rates, interpret.compile, np.float64)
    return tell("lushan in float64, PyTorch in float64", ours, training.pytorch(rates, np.float64))


def violations(float64: float, float32: float) -> list[str]:
    """Return which claims do not hold for the largest differences; NaN holds none."""
    claims = (
        ("in float64 at the recipe's rate", float64, FLOAT64_BOUND),
        (f"in float32 at a rate of {min(SMALL_RATES):g}", float32, FLOAT32_BOUND),
    )
    return [
        f"{what} losses differ by {most:.1e}, more than {bound:g}"
        for what, most, bound in claims
        if not most <= bound
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--config", type=Path, default=RECIPE)
    parser.add_argument("--classes", type=int, default=10, help="without a folder")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    training, recipe = prepare(options)
    steps, batch = len(training.batches), len(training.batches[0][0])
    print(f"{options.config.stem}, {steps} steps; the largest difference of two losses after")
    columns = (*(place for place in (1, 10, 25) if place < steps), steps)
    print(f"  {'':<44}" + "".join(f"{place:>10}" for place in columns))
    first, last = (numbers[RATES[0]] for numbers in (recipe[0], recipe[-1]))
    print(f"the recipe's rate, {first:.3f} to {last:.3f}; float64, batch {FLOAT64_BATCH}")
    float64 = compare_in_float64(training, recipe)
    print(f"\nthe recipe's rate; float32, batch {batch}")
    compare_in_float32(training, recipe, with_float64=True)
    for rate in SMALL_RATES:
        print(f"a rate of {rate:g}; float32, batch {batch}")
        slow = [{**numbers, RATES[0]: rate} for numbers in recipe]
        float32 = compare_in_float32(training, slow, with_float64=False)
    found = violations(float64, float32)
    for failure in found:
        print(f"FAILED: {failure}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
