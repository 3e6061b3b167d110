"""From a folder of pictures to a run folder: the whole of ``lushan train`` but its command line.

Everything that can be wrong with the call is found before the run folder is made. The pictures are
looked at first: it takes a moment, and fills the store of decoded pictures.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lushan import __version__
from lushan.cores import thread_count
from lushan.engines import DEFAULT_ENGINE
from lushan.errors import LushanError, PictureError, UsageError
from lushan.models.config import ModelConfig
from lushan.models.zoo import load_model
from lushan.text import first_few
from lushan.train.dataset import (
    ImageFolder,
    Sample,
    check_classes,
    check_outside,
    labels_of,
    open_image_folder,
    read_class_names,
    split,
)
from lushan.train.drawing import draw_confusion, draw_curves
from lushan.train.loader import TrainingBatches
from lushan.train.loop import Loop, Progress, Task
from lushan.train.metrics import MetricsLog
from lushan.train.picture_check import PictureCheck, PictureStore, check_pictures, relative_name
from lushan.train.program import TRAINING_ENGINE, program_factory
from lushan.train.report import RunFacts, to_html
from lushan.train.run_folder import (
    CONFUSION,
    CURVES,
    METRICS,
    REPORT,
    RUN,
    TENSORBOARD,
    RunFolder,
    check_new,
    read_record,
)
from lushan.train.sampling import inverse_class_weights
from lushan.train.settings import Settings
from lushan.train.starting_point import StartingPoint, configure, starting_weights
from lushan.train.validation import Validation

CACHE_BYTES = 2 * 2**30
_MOST_WORKERS = 4
_RECORDS = 5  # of an epoch, at least, if it has so many steps: else short runs would show nothing


@dataclass(frozen=True)
class Machine:
    """How a run is computed. None of it changes what is computed."""

    threads: int | None = None
    cache_bytes: int = CACHE_BYTES  # of decoded pictures in memory
    checkpoint_seconds: float = 300.0  # between checkpoints within an epoch
    record_steps: int = 50  # between records within an epoch; fewer where it has few steps
    engine: str = DEFAULT_ENGINE  # that validates
    training_engine: str = TRAINING_ENGINE


@dataclass(frozen=True)
class Listener:
    """Who is told how a run goes on."""

    on_pictures: Callable[[int, int], None] = lambda done, total: None
    on_check: Callable[[PictureCheck, Path], None] = lambda check, root: None
    on_notice: Callable[[LushanError], None] = lambda notice: None
    on_step: Callable[[Progress, Task], None] = lambda progress, task: None
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda record: None


@dataclass(frozen=True)
class Outcome:
    """What became of a run: the measure of the model that is in its folder."""

    model: str
    epochs: int  # that were done
    kept_epoch: int  # counted from 1
    validation: Validation
    unreadable: tuple[tuple[str, PictureError], ...]
    has_tensorboard: bool


@dataclass(frozen=True)
class _Data:
    """Pictures that were looked at and divided, and what is recorded of them."""

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    check: PictureCheck
    record: dict[str, Any]


def train(
    root: Path | None,
    output: Path,
    given: Mapping[str, Any],
    *,
    val: Path | None = None,
    resume: bool = False,
    machine: Machine | None = None,
    listener: Listener | None = None,
    lang: str = "en",
) -> Outcome:
    """Train on the pictures below ``root``, and return how good the model in ``output`` is.

    ``given`` are settings as ``Settings.from_dict`` takes them. With ``resume`` a run that is in
    ``output`` continues with its own settings and pictures (``root`` may be None then); what is
    given must agree with them. Where there is none yet, it begins. Raises UsageError and ModelError
    for what is wrong with the call, before anything is written; TrainingError when it fails later.
    """
    machine, listener = machine or Machine(), listener or Listener()
    settings = Settings.from_dict(given)
    record = read_record(output) if resume else None
    if record is not None:
        settings = _recorded_settings(record, given, output)
        root = root or Path(record["data"]["root"])
        val = val or (record["data"]["val"] and Path(record["data"]["val"]))
    else:
        check_new(output)
    if root is None:
        raise UsageError(
            "{path}: no run in it to resume; name a folder of pictures to begin one",
            path=str(output),
        )
    check_outside(output, root, val=val)
    store = PictureStore(machine.cache_bytes)
    data = _prepare_data(root, val, settings, store, machine, listener)
    if record is not None:
        _check_same_data(record["data"], data.record, output)
        start = StartingPoint.of(ModelConfig.from_dict(record["config"], source=str(output)))
    else:
        descriptions = read_class_names(root, data.classes)
        start = StartingPoint.of(configure(settings, data.classes, descriptions))
    task = _task(settings, start, data, store, machine)
    factory = program_factory(
        start.graph, settings, engine=machine.training_engine, threads=machine.threads
    )
    initial = None
    if record is None:
        initial = starting_weights(settings, start, tell=listener.on_notice)
        folder = RunFolder.create(output, _record(settings, start.config, data))
    else:
        folder, _ = RunFolder.open(output)
    with folder:
        loop = Loop(task, folder, factory)
        writer = _Writer(folder, settings, listener, lang)
        progress = loop.run(
            lambda: starting_weights(settings, start) if initial is None else initial,
            writer.open_log,
            on_step=lambda progress: listener.on_step(progress, task),
            on_epoch=writer.epoch_done,
        )
        return writer.finish(loop, progress, data, store)


@dataclass
class _Writer:
    """Writes what a run shows of itself: curves after each epoch, the report at the end."""

    folder: RunFolder
    settings: Settings
    listener: Listener
    lang: str
    records: list[dict[str, Any]] = field(default_factory=list)
    has_tensorboard: bool = False

    def open_log(self, step: int) -> MetricsLog:
        path = self.folder.path
        log = MetricsLog(path / METRICS, path / TENSORBOARD, step=step)
        self.records, self.has_tensorboard = log.records, log.has_tensorboard
        return log

    def epoch_done(self, record: Mapping[str, Any], log: MetricsLog) -> None:
        self._draw_curves()
        self.listener.on_epoch(record)

    def finish(self, loop: Loop, progress: Progress, data: _Data, store: PictureStore) -> Outcome:
        """Measure the model as it lies in the folder, and write the report about it."""
        path = self.folder.path
        model = load_model(path)
        validation = loop.validate(model.weights)
        kept = progress.epoch if self.settings.keep == "last" else progress.best_epoch + 1
        facts = RunFacts(
            model=model.config.architecture,
            labels=model.labels,
            train=len(data.train),
            val=len(data.val),
            epochs=progress.epoch,
            seed=self.settings.seed,
            kept_epoch=kept,
            unreadable=data.check.unreadable,
            duplicates=data.record["duplicates"],
        )
        names = [model.labels.description(i, self.lang) for i in range(len(model.labels))]
        self._draw_curves()
        self.folder.write(
            CONFUSION, draw_confusion(validation.confusion, names, self.lang).encode()
        )
        page = to_html(facts, validation, self.records, store, lang=self.lang)
        self.folder.write(REPORT, page.encode())
        return Outcome(
            facts.model,
            progress.epoch,
            kept,
            validation,
            data.check.unreadable,
            self.has_tensorboard,
        )

    def _draw_curves(self) -> None:
        self.folder.write(CURVES, draw_curves(self.records, self.lang).encode())


def _prepare_data(
    root: Path,
    val: Path | None,
    settings: Settings,
    store: PictureStore,
    machine: Machine,
    listener: Listener,
) -> _Data:
    folder = open_image_folder(root, val=val)
    check = check_pictures(
        (*folder.train, *(folder.val or ())),
        store,
        threads=thread_count(machine.threads),
        progress=listener.on_pictures,
    )
    listener.on_check(check, root)
    train, held = _divide(folder, check, settings)
    known = _in_both(check, train, held)
    if known:
        listener.on_notice(
            UsageError(
                "{count} of the {total} pictures to validate on are among those to train on, too: "
                "what is measured on them flatters the model",
                count=known,
                total=len(held),
            )
        )
    record: dict[str, Any] = {
        "root": str(root.resolve()),
        "val": None if val is None else str(val.resolve()),
        "classes": list(folder.classes),
        "counts": {"train": len(train), "val": len(held)},
        "split": None,
        "fingerprint": check.fingerprint(root),
        "unreadable": [str(error) for _, error in check.unreadable],
        "duplicates": [
            [relative_name(sample.path, root) for sample in group] for group in check.duplicates
        ],
    }
    if folder.val is None:
        record["split"] = {
            "val_fraction": settings.val_fraction,
            "seed": settings.seed,
            "val": [relative_name(sample.path, root) for sample in held],
        }
    return _Data(folder.classes, tuple(train), tuple(held), check, record)


def _divide(
    folder: ImageFolder, check: PictureCheck, settings: Settings
) -> tuple[list[Sample], list[Sample]]:
    """Return the readable pictures to train on, and those to validate on."""
    if folder.val is None:
        train, held = split(
            check.readable, check.hashes, fraction=settings.val_fraction, seed=settings.seed
        )
    else:
        unreadable = set(folder.train) | set(folder.val)
        unreadable.difference_update(check.readable)
        train = [sample for sample in folder.train if sample not in unreadable]
        held = [sample for sample in folder.val if sample not in unreadable]
    check_classes(train, folder.classes, folder.root)
    if not held:
        raise UsageError(
            "{folder}: none of the pictures to validate on can be read", folder=str(folder.root)
        )
    return train, held


def _in_both(check: PictureCheck, train: Sequence[Sample], held: Sequence[Sample]) -> int:
    """Return how many pictures of ``held`` show the same pixels as one of ``train``."""
    hashes = dict(zip(check.readable, check.hashes, strict=True))
    seen = {hashes[sample] for sample in train}
    return sum(hashes[sample] in seen for sample in held)


def _task(
    settings: Settings, start: StartingPoint, data: _Data, store: PictureStore, machine: Machine
) -> Task:
    if len(data.train) < settings.batch:
        raise UsageError(
            "{count} pictures to train on make no batch of {batch}: give more pictures, or a "
            "smaller batch",
            count=len(data.train),
            batch=settings.batch,
        )
    start.check_sizes(settings)
    labels, classes = labels_of(data.train), len(data.classes)
    weights = None
    if settings.class_weights == "inverse":
        weights = inverse_class_weights(labels, classes)
    batches = TrainingBatches(
        data.train,
        classes,
        store,
        start.preprocessing,
        settings.augmentation,
        batch=settings.batch,
        seed=settings.seed,
        balanced=settings.sampling == "balanced",
        label_smoothing=settings.label_smoothing,
        class_weights=weights,
    )
    # With every picture in memory one worker is fast enough, and takes no core from the step.
    in_memory = len(store) == len(data.train) + len(data.val)
    return Task(
        settings,
        start.config,
        start.graph,
        batches,
        data.val,
        start.preprocessing,
        machine.engine,
        threads=machine.threads,
        workers=1 if in_memory else min(_MOST_WORKERS, thread_count(machine.threads)),
        checkpoint_seconds=machine.checkpoint_seconds,
        record_steps=min(machine.record_steps, max(1, batches.steps // _RECORDS)),
    )


def _record(settings: Settings, config: ModelConfig, data: _Data) -> dict[str, Any]:
    return {
        "lushan": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "settings": settings.to_dict(),
        "config": config.to_dict(),
        "data": data.record,
    }


def _recorded_settings(
    record: Mapping[str, Any], given: Mapping[str, Any], output: Path
) -> Settings:
    """Return the settings that a run began with; raises UsageError where others are given."""
    try:
        recorded = Settings.from_dict(record["settings"])
    except UsageError as error:
        raise UsageError("{source}: {problem}", source=str(output / RUN), problem=error) from None
    before, now = recorded.to_dict(), Settings.from_dict({**record["settings"], **given}).to_dict()
    changed = [key for key in before if before[key] != now[key]]
    if changed:
        raise UsageError(
            "{path}: a run resumes with the settings it began with; these differ: {names}; leave "
            "them out, or begin a new run in another folder",
            path=str(output),
            names=", ".join(f"{key} {before[key]} → {now[key]}" for key in changed),
        )
    return recorded


def _check_same_data(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Raise UsageError where the pictures are others than those that a run began with."""
    if before["fingerprint"] == now["fingerprint"]:
        return
    changes = [
        f"{key} {before[key]} → {now[key]}"
        for key in ("counts", "classes")
        if before[key] != now[key]
    ]
    raise UsageError(
        "{path}: the pictures are not those that the run began with ({changes}): put them back, or "
        "begin a new run in another folder",
        path=str(output),
        changes=first_few(changes) or now["root"],
    )
