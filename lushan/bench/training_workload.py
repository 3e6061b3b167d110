"""What a training benchmark trains: from the name of a model, or a recipe, to a workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lushan.bench.training_peers import TrainingWorkload
from lushan.cores import thread_count
from lushan.errors import UsageError
from lushan.models.resnet import ARCHITECTURES
from lushan.models.zoo import load_model
from lushan.train.checks import check_count
from lushan.train.settings import Settings, read_settings
from lushan.train.starting_point import DEFAULT_MODEL, StartingPoint, configure, starting_weights

CLASSES = 1000  # of a network of one's own design, unless said
_MANY = 10**6


@dataclass(frozen=True, eq=False)
class Described:
    """A workload, what its network is called, and where its weights come from."""

    workload: TrainingWorkload
    model: str
    weights: str


def describe(
    model: str | None,
    config: Path | None,
    *,
    classes: int | None = None,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
) -> Described:
    """Return the training that the settings in the file ``config`` describe, or the usual one.

    ``model``, an architecture or weights to start from, ``batch`` and ``size``, (height, width), go
    before those; so does ``classes`` before those of the network. Pictures and their classes are
    random, the same for the same numbers. Raises UsageError and ModelError for settings, weights
    and numbers that cannot be.
    """
    values = {} if config is None else read_settings(config)
    if model is not None:
        values["model" if model in ARCHITECTURES else "init"] = model
    if batch is not None:
        values["batch"] = batch
    try:
        settings = Settings.from_dict(values)
    except UsageError as error:
        if config is None:
            raise
        raise UsageError("{source}: {problem}", source=str(config), problem=error) from None
    start = StartingPoint.of(configure(settings, _class_names(settings, classes), {}))
    height, width = size or (start.preprocessing.height, start.preprocessing.width)
    random = np.random.default_rng(settings.seed)
    workload = TrainingWorkload(
        graph=start.graph,
        weights=starting_weights(settings, start),
        x=random.standard_normal((settings.batch, height, width, 3), np.float32),
        labels=random.integers(0, start.network.classes, settings.batch),
        classes=start.network.classes,
        settings=settings,
        threads=thread_count(threads),
    )
    origin = f"random, seed {settings.seed}" if settings.init is None else f"of {settings.init}"
    return Described(workload, start.config.architecture, origin)


def _class_names(settings: Settings, classes: int | None) -> Sequence[str]:
    """Return names for so many classes; where nothing is said, those of the network."""
    if classes is not None:
        check_count("classes", classes, 2, _MANY)
    elif settings.init is not None:
        return load_model(settings.init).labels.names
    else:
        known = ARCHITECTURES.get(settings.model or DEFAULT_MODEL)
        classes = CLASSES if known is None else known.classes
    return [str(number) for number in range(classes)]
