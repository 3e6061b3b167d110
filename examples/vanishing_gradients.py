"""What vanishes in a deep network, and what the shortcut does about it.

Trains networks that differ in one thing at a time (plain or residual, with or without batch norm,
sigmoid, tanh or ReLU, 20 or 56 layers) on the same pictures, and draws the loss by steps and the
norm of the gradient by layers.

Run: python examples/vanishing_gradients.py PICTURES OUTPUT

PICTURES has a folder of pictures per class, or such folders in PICTURES/train. What was trained is
kept in OUTPUT/runs, a file each, and not trained again: interrupt it at will.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count, islice, product
from pathlib import Path
from typing import Any

from lushan.atomic_file import replacing
from lushan.models.resnet import ARCHITECTURES, Activation, ResNet
from lushan.train.dataset import ImageFolder, open_image_folder
from lushan.train.drawing import Panel, draw_panels
from lushan.train.loader import Batch, TrainingBatches
from lushan.train.loop import NORM
from lushan.train.picture_check import PictureStore
from lushan.train.program import program_factory
from lushan.train.settings import Settings
from lushan.train.starting_point import StartingPoint, configure, starting_weights

ACTIVATIONS: Mapping[Activation, str] = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
# The same for all but one: ReLU without batch norm learns nothing at this rate. Without clip,
# residual networks of that kind are lost at the first step.
TRAINING: dict[str, Any] = {
    "model": "resnet",
    "batch": 32,
    "size": 32,
    "learning_rate": 0.05,
    "clip": 1.0,
    "weight_decay": 1e-4,
    "augmentation": {"crop": "padded"},
    "watch_gradients": True,
}
SMALL_RATE = 0.01
WINDOW = 10  # steps whose mean loss is one point of a curve
# Norms that are drawn. On one scale all but the sigmoids would be flat lines.
VANISHING, USUAL = (1e-30, 1e10), (1e-3, 1e6)
END = 20  # steps whose mean loss is what a network has reached

Results = dict["Run", dict[str, Any]]


@dataclass(frozen=True)
class Design:
    """One of the networks that are compared."""

    depth: int  # weighted layers
    batch_norm: bool
    activation: Activation
    residual: bool

    @property
    def name(self) -> str:
        """Say what it is."""
        norm = "batch norm" if self.batch_norm else "no batch norm"
        kind = "residual" if self.residual else "plain"
        return f"{self.depth} layers, {norm}, {ACTIVATIONS[self.activation]}, {kind}"

    def network(self) -> ResNet:
        """Return the network: that of He et al. for CIFAR-10, changed."""
        return replace(
            ARCHITECTURES["resnet20_cifar"],
            depths=((self.depth - 2) // 6,) * 3,
            shortcut="zero_padding" if self.residual else "none",
            batch_norm=self.batch_norm,
            activation=self.activation,
        )


@dataclass(frozen=True)
class Run:
    """A design, and the seed of its weights and batches."""

    design: Design
    seed: int

    @property
    def file(self) -> str:
        """The name of the file that keeps its numbers."""
        return f"{self.design.name}, seed {self.seed}.json".replace(", ", "-").replace(" ", "_")


def train(run: Run, folder: ImageFolder, store: PictureStore, steps: int) -> dict[str, Any]:
    """Return the losses of ``steps`` steps, and what gradients the layers have in the first one."""
    network, given = run.design.network(), {**TRAINING, "seed": run.seed}
    if network.activation == "relu" and not network.batch_norm:
        given["learning_rate"] = SMALL_RATE
    settings = Settings.from_dict({**given, "model_args": network.to_dict()})
    start = StartingPoint.of(configure(settings, folder.classes, {}))
    layers = [
        node.inputs[1] for node in start.graph.nodes if node.operator in ("convolution", "linear")
    ]
    losses: list[float] = []
    gradients: list[float] = []
    began = time.perf_counter()
    factory = program_factory(start.graph, settings, engine="cpu")
    with closing(factory(starting_weights(settings, start))) as program:
        for step, batch in enumerate(islice(batches(settings, start, folder, store), steps)):
            rate, momentum = settings.schedule.at(
                step, steps, learning_rate=settings.peak(), momentum=settings.momentum
            )
            values = program.step(
                {
                    "input": batch.pictures,
                    "targets": batch.targets,
                    "learning_rate": rate,
                    "momentum": momentum,
                    "weight_decay": settings.weight_decay,
                }
            )
            if not math.isfinite(values["loss"]) or not math.isfinite(values[NORM]):
                break
            losses.append(float(values["loss"]))
            gradients = gradients or [float(values[f"{name}.{NORM}"]) for name in layers]
    return {
        "settings": settings.to_dict(),
        "steps": steps,
        "seconds": round(time.perf_counter() - began, 1),
        "losses": losses,  # fewer than steps where numbers ran out of float32
        "layers": layers,
        "gradient_norms": gradients,
    }


def batches(
    settings: Settings, start: StartingPoint, folder: ImageFolder, store: PictureStore
) -> Iterator[Batch]:
    """Yield batches without end, the same for the same seed."""
    source = TrainingBatches(
        folder.train,
        len(folder.classes),
        store,
        start.preprocessing,
        settings.augmentation,
        batch=settings.batch,
        seed=settings.seed,
    )
    if not source.steps:
        raise SystemExit(f"{len(folder.train)} pictures make no batch of {settings.batch}")
    for epoch in count():
        with closing(source.epoch(epoch)) as made:
            yield from made


def reached(result: Mapping[str, Any]) -> float:
    """Return the mean loss of the last steps; infinity where a network did not get that far."""
    losses = result["losses"][-END:]
    return sum(losses) / len(losses) if len(result["losses"]) == result["steps"] else math.inf


# --- what is written ------------------------------------------------------------------------------


def draw(results: Results, designs: Sequence[Design], steps: int) -> dict[str, str]:
    """Return the drawings by name: a row for each depth, without and with batch norm."""
    loss, gradients = [], []
    panels = dict.fromkeys((d.depth, d.batch_norm, d.activation) for d in designs)
    for depth, batch_norm, activation in panels:
        losses: dict[str, list[list[tuple[float, float]]]] = {}
        norms: dict[str, list[list[tuple[float, float]]]] = {}
        for name, residual in (("plain", False), ("residual", True)):
            design = Design(depth, batch_norm, activation, residual)
            found = [result for run, result in results.items() if run.design == design]
            losses[name] = [curve(result["losses"]) for result in found]
            norms[name] = [list(enumerate(result["gradient_norms"], 1)) for result in found]
        title = f"{ACTIVATIONS[activation]}, {depth} layers{', batch norm' * batch_norm}"
        loss.append(Panel(title, losses, "step", steps, limits=(1, 3)))
        limits = VANISHING if activation == "sigmoid" and not batch_norm else USUAL
        gradients.append(
            Panel(title, norms, "layer", depth, first=1, limits=limits, logarithmic=True)
        )
    columns = len(ACTIVATIONS)
    return {
        "loss.svg": draw_panels(loss, columns),
        "gradients.svg": draw_panels(gradients, columns),
    }


def curve(losses: Sequence[float]) -> list[tuple[float, float]]:
    """Return points (step, mean loss of the steps around it)."""
    windows = [losses[start : start + WINDOW] for start in range(0, len(losses), WINDOW)]
    return [
        (WINDOW * place + len(window) / 2, sum(window) / len(window))
        for place, window in enumerate(windows)
    ]


def table(results: Results) -> str:
    """Return a line for each run, with tabs: what it is, and what came out."""
    heads = "layers batch_norm activation shortcut seed first_layer last_layer loss"
    lines = [heads.replace(" ", "\t")]
    for run, result in results.items():
        design, norms = run.design, result["gradient_norms"] or [math.nan] * 2
        lines.append(
            f"{design.depth}\t{design.batch_norm:d}\t{design.activation}\t{design.residual:d}\t"
            f"{run.seed}\t{norms[0]:.1e}\t{norms[-1]:.1e}\t{reached(result):.3f}"
        )
    return "\n".join(lines) + "\n"


# --- the program ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("pictures", type=Path, help="a folder of pictures per class")
    parser.add_argument("output", type=Path, help="where numbers and drawings go")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56], help="6n + 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--most", type=int, help="train so many networks now, and no more")
    options = parser.parse_args()
    designs = [
        Design(*chosen)
        for chosen in product(options.depths, (False, True), ACTIVATIONS, (False, True))
    ]
    folder, store = open_image_folder(options.pictures), PictureStore(2**30)
    kept = options.output / "runs" / f"{options.steps}_steps"
    kept.mkdir(parents=True, exist_ok=True)
    runs = [Run(design, seed) for seed, design in product(options.seeds, designs)]
    files = {run: kept / run.file for run in runs}
    missing = [run for run, path in files.items() if not path.exists()]
    for run in missing[: options.most]:
        if files[run].exists():  # another process has trained it meanwhile
            continue
        result = train(run, folder, store, options.steps)
        with replacing(files[run]) as temporary:
            temporary.write_text(json.dumps(result), encoding="utf-8")
        print(f"{run.file}: {reached(result):.3f}, {result['seconds']} s", flush=True)
    results = {r: json.loads(f.read_text("utf-8")) for r, f in files.items() if f.exists()}
    for name, text in draw(results, designs, options.steps).items():
        (options.output / name).write_text(text, encoding="utf-8")
    (options.output / "numbers.tsv").write_text(table(results), encoding="utf-8")
    print(f"{len(results)} of {len(files)} networks; drawn in {options.output}")


if __name__ == "__main__":
    main()
