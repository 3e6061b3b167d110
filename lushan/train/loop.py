"""The loop: steps, epochs, validation, checkpoints.

What a run computes depends on its settings and its pictures only. All that carries over from one
step to the next is the program's parameters, the moving average and ``Progress``; a checkpoint
holds them, so a run that is resumed goes on bit for bit as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lushan.engines import ENGINES
from lushan.errors import ModelError, TrainingError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.image.preprocess import Preprocessing
from lushan.models.config import ModelConfig
from lushan.train.dataset import Sample
from lushan.train.ema import MovingAverage
from lushan.train.loader import Batch, TrainingBatches, validation_batches
from lushan.train.metrics import MetricsLog
from lushan.train.program import ProgramFactory, TrainingProgram
from lushan.train.run_folder import RunFolder
from lushan.train.settings import Settings
from lushan.train.validation import Validation, validate

AVERAGE = "ema/"  # before the names of averaged weights in a checkpoint
NORM = "gradient_norm"
_VALIDATION_PIXELS = 16 * 224 * 224  # of a batch


@dataclass(frozen=True)
class Task:
    """What is trained on what; nothing in it changes."""

    settings: Settings
    config: ModelConfig
    graph: Graph  # of the network
    batches: TrainingBatches
    val: Sequence[Sample]
    preprocessing: Preprocessing
    engine: str
    threads: int | None
    workers: int  # threads that make batches
    checkpoint_seconds: float  # between checkpoints within an epoch
    record_steps: int  # between records within an epoch

    @property
    def steps(self) -> int:
        """The steps of the whole run."""
        return self.settings.epochs * self.batches.steps


@dataclass
class Progress:
    """Where a run stands, as a checkpoint keeps it."""

    epoch: int = 0  # the epoch under way, counted from 0
    batch: int = 0  # batches of it that are done
    step: int = 0  # steps of the run that are done
    loss: float = 0.0  # the sum over the pictures of the epoch so far
    correct: int = 0  # … and how many of them were answered correctly, as they were seen
    best_epoch: int = -1
    best_top1: int = -1
    best_loss: float = math.inf
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as values for JSON, which has no infinity."""
        return {key: value for key, value in asdict(self).items() if value != math.inf}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> Progress:
        """Read it back; raises ModelError where another version of lushan wrote it."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(
                "{source}: its checkpoint is of another version of lushan ({reason}); resume with "
                "that one",
                source=source,
                reason=str(error),
            ) from None


class Loop:
    """One run, from where its folder says it stands to its end."""

    def __init__(self, task: Task, folder: RunFolder, factory: ProgramFactory) -> None:
        self.task = task
        self.progress = Progress()
        self._folder = folder
        self._factory = factory
        self._names = [value.name for value in task.graph.parameters]

    def run(
        self,
        initial: Callable[[], Mapping[str, Array]],
        log: Callable[[int], MetricsLog],
        *,
        on_step: Callable[[Progress], None] = lambda progress: None,
        on_epoch: Callable[[Mapping[str, Any], MetricsLog], None] = lambda record, log: None,
    ) -> Progress:
        """Train to the end.

        ``initial`` gives the weights to begin with where there is no checkpoint; ``log`` opens the
        metrics at a step. ``on_epoch`` is told the record of each epoch. Raises TrainingError when
        the loss is no longer a number, or the run cannot be written; the last checkpoint stays.
        """
        saved = self._folder.load_checkpoint()
        if saved is not None:
            self.progress = Progress.from_dict(saved[0], str(self._folder.path))
        arrays = initial() if saved is None else saved[1]
        metrics = log(self.progress.step)
        with closing(metrics), closing(self._program(arrays)) as program:
            average = self._average(program, arrays, resumed=saved is not None)
            if saved is None:
                self._save(program, average, metrics)
            while not self.progress.finished:
                clock = self._epoch(program, average, metrics, on_step)
                record = self._finish_epoch(program, average, clock)
                metrics.add(record)
                on_epoch(record, metrics)
                self._save(program, average, metrics)
        return self.progress

    def _program(self, arrays: Mapping[str, Array]) -> TrainingProgram:
        own = {name: array for name, array in arrays.items() if not name.startswith(AVERAGE)}
        return self._factory(own)

    def _average(
        self, program: TrainingProgram, arrays: Mapping[str, Array], *, resumed: bool
    ) -> MovingAverage | None:
        settings = self.task.settings
        if not settings.ema:
            return None
        average = MovingAverage(
            program.parameters, self._names, settings.ema, every=settings.ema_every
        )
        if resumed:
            average.restore({name: arrays[AVERAGE + name] for name in self._names})
        return average

    def _epoch(
        self,
        program: TrainingProgram,
        average: MovingAverage | None,
        metrics: MetricsLog,
        on_step: Callable[[Progress], None],
    ) -> _Clock:
        """Do the steps of the epoch under way that are still to be done."""
        task, progress = self.task, self.progress
        clock = _Clock()
        side = task.settings.size_at(progress.epoch)
        batches = task.batches.epoch(
            progress.epoch,
            start=progress.batch,
            size=None if side is None else (side, side),
            workers=task.workers,
        )
        with closing(batches):
            for batch in clock.waiting(batches):
                record = self._step(program, batch)
                if average is not None:
                    average.update(program.parameters, progress.step - 1)
                if progress.step % task.record_steps == 0:
                    metrics.add(record)
                on_step(progress)
                clock.pictures += len(batch.labels)
                is_last = progress.batch == task.batches.steps
                if not is_last and clock.since_checkpoint() >= task.checkpoint_seconds:
                    self._save(program, average, metrics)
                    clock.checkpoint_done()
        return clock

    def _step(self, program: TrainingProgram, batch: Batch) -> dict[str, Any]:
        """Do one step, and return what there is to record of it."""
        settings, progress = self.task.settings, self.progress
        rate, momentum = settings.schedule.at(
            progress.step,
            self.task.steps,
            learning_rate=settings.peak(),
            momentum=settings.momentum,
        )
        with np.errstate(over="ignore", invalid="ignore"):  # the loss is looked at
            values = program.step(
                {
                    "input": batch.pictures,
                    "targets": batch.targets,
                    "learning_rate": np.float32(rate),
                    "momentum": np.float32(momentum),
                    "weight_decay": np.float32(settings.weight_decay),
                }
            )
        loss = float(values["loss"])
        if not math.isfinite(loss):
            raise self._diverged(TrainingError("the loss is {value}", value=loss))
        progress.loss += loss * len(batch.labels)
        progress.correct += int((values["scores"].argmax(axis=1) == batch.labels).sum())
        progress.batch += 1
        progress.step += 1
        norms = {name: float(array) for name, array in values.items() if name.endswith(NORM)}
        return {
            "kind": "step",
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": loss,
            "learning_rate": rate,
            "momentum": momentum,
            **{name: norm for name, norm in norms.items() if math.isfinite(norm)},
        }

    def _finish_epoch(
        self, program: TrainingProgram, average: MovingAverage | None, clock: _Clock
    ) -> dict[str, Any]:
        """Validate, keep the model if it is to be kept, and go on to the next epoch."""
        task, progress, settings = self.task, self.progress, self.task.settings
        began = time.perf_counter()
        weights = average.arrays if average is not None else program.parameters
        weights = {name: np.array(weights[name]) for name in self._names}
        self._check_finite(weights)
        found = self.validate(weights)
        if not math.isfinite(found.loss):
            raise self._diverged(
                TrainingError("the loss on the validation pictures is {value}", value=found.loss)
            )
        better = (found.top1, -found.loss) > (progress.best_top1, -progress.best_loss)
        if better:
            progress.best_epoch, progress.best_top1 = progress.epoch, found.top1
            progress.best_loss = found.loss
        if better or settings.keep == "last":
            self._folder.save_model(task.config, weights)
        seen = task.batches.steps * task.batches.batch
        record = {
            "kind": "epoch",
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "train_loss": progress.loss / seen,
            "train_accuracy": progress.correct / seen,
            "val_loss": found.loss,
            "val_top1": found.top1 / found.images,
            "val_top5": found.top5 / found.images,
            "is_best": better,
            **clock.report(),
            "validation_seconds": round(time.perf_counter() - began, 3),
        }
        progress.epoch += 1
        progress.batch, progress.loss, progress.correct = 0, 0.0, 0
        patience = settings.early_stop
        is_idle = patience is not None and progress.epoch - 1 - progress.best_epoch >= patience
        progress.finished = progress.epoch == settings.epochs or is_idle
        return record

    def validate(self, weights: Mapping[str, Array]) -> Validation:
        """Measure the network with ``weights`` on the validation pictures."""
        task = self.task
        program = ENGINES[task.engine](task.graph, weights, threads=task.threads)
        shape = task.preprocessing.height * task.preprocessing.width
        batches = validation_batches(
            task.val,
            task.batches.classes,
            task.batches.store,
            task.preprocessing,
            batch=max(1, min(128, _VALIDATION_PIXELS // shape)),
            workers=task.workers,
        )
        with closing(program), closing(batches):
            return validate(program, task.graph.outputs[0], batches, task.val, task.batches.classes)

    def _save(
        self, program: TrainingProgram, average: MovingAverage | None, metrics: MetricsLog
    ) -> None:
        """Write a checkpoint, unless its weights are spoilt: the last good one stays."""
        tensors = dict(program.parameters)
        self._check_finite(tensors)
        if average is not None:
            tensors |= {AVERAGE + name: array for name, array in average.arrays.items()}
        metrics.sync()
        self._folder.save_checkpoint(self.progress.to_dict(), tensors)

    def _check_finite(self, arrays: Mapping[str, Array]) -> None:
        """Raise TrainingError for NaN and infinity: an update can spoil weights after the loss."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self._diverged(
                    TrainingError("the parameter {name} has NaN or infinity", name=name)
                )

    def _diverged(self, problem: TrainingError) -> TrainingError:
        progress = self.progress
        return TrainingError(
            "{path}: the training diverged in epoch {epoch} after {step} steps: {problem}; begin "
            "again with a lower learning rate (its peak was {rate:g}), a longer warm-up or clip; "
            "the last good checkpoint and the best model are kept",
            path=str(self._folder.path),
            epoch=progress.epoch + 1,
            step=progress.step,
            problem=problem,
            rate=self.task.settings.peak(),
        )


class _Clock:
    """Where the time of an epoch went. None of it changes what is computed."""

    def __init__(self) -> None:
        self.pictures = 0
        self._start = self._checkpoint = time.perf_counter()
        self._waited = 0.0

    def waiting(self, batches: Any) -> Any:
        """Yield from ``batches``, and note how long each took to come."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def since_checkpoint(self) -> float:
        return time.perf_counter() - self._checkpoint

    def checkpoint_done(self) -> None:
        self._checkpoint = time.perf_counter()

    def report(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        return {
            "seconds": round(seconds, 3),
            "data_seconds": round(self._waited, 3),
            "pictures_per_second": round(self.pictures / max(seconds, 1e-9), 1),
        }
