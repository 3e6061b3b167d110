"""``lushan train``: a folder of labelled pictures → a model that knows their classes.

Results go to stdout; what is wrong with which picture, and a line per epoch, to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lushan.cli.options import (
    LanguageOption,
    ReportFormat,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.progress import progress_bar
from lushan.cli.streams import to_json
from lushan.cores import thread_count
from lushan.errors import LushanError, MissingExtraError, UsageError

if TYPE_CHECKING:  # loaded when there is something to train
    from lushan.train.loop import Progress, Task
    from lushan.train.picture_check import PictureCheck
    from lushan.train.trainer import Outcome

_SHOWN_DUPLICATES = 20


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder to write.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="One folder of pictures per class; or such folders in train and val.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The architecture; resnet18, or that of --init."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="WEIGHTS", help="Start from these: any name of a model."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PREFIX", help="Do not train these layers; repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings in JSON; options go before them."),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="DIR", help="Validate on these, one folder per class."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over all pictures.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pictures of a step.")] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Side of the pictures, pixels.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="The peak of the learning rate.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn.")] = None,
    watch_gradients: Annotated[
        bool, typer.Option("--watch-gradients", help="Record the norm of every gradient.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in RUN, if there is one.")
    ] = False,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the result.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
    cache: Annotated[
        int, typer.Option("--cache", metavar="MIB", help="Memory for decoded pictures.")
    ] = 2048,
) -> None:
    """Train a network on one's own classes.

    RUN becomes a model folder: lushan classify --model RUN. A run that was interrupted continues
    with --resume, with the same result as one that was not.
    """
    language = chosen_language(lang)
    options = {
        "model": model,
        "init": init,
        "freeze": freeze or None,
        "epochs": epochs,
        "batch": batch,
        "size": size,
        "learning_rate": learning_rate,
        "seed": seed,
        "watch_gradients": watch_gradients or None,
    }
    with errors_told(language), ExitStack() as bars:
        from lushan.train.trainer import Machine, train

        _check(threads, cache)
        outcome = train(
            folder,
            output,
            _given(config, options),
            val=val,
            resume=resume,
            machine=Machine(threads=threads, cache_bytes=cache * 2**20),
            listener=_listener(bars, language),
            lang=language,
        )
    _tell(outcome, output, language, format_)
    if outcome.unreadable:
        raise typer.Exit(1)


def _check(threads: int | None, cache: int) -> None:
    thread_count(threads)
    if cache < 0:
        raise UsageError("cache should be 0 or more, in MiB; received {value!r}", value=cache)


def _given(config: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the file and of the options, which win, checked."""
    from lushan.train.settings import Settings, read_settings
    from lushan.train.starting_point import absolute

    values: dict[str, Any] = {}
    if config is not None:
        values = read_settings(config)
        try:
            Settings.from_dict(values)
        except UsageError as error:
            raise UsageError("{source}: {problem}", source=str(config), problem=error) from None
    values |= {key: value for key, value in options.items() if value is not None}
    if "init" in values:
        values["init"] = absolute(values["init"])
    return values


def _listener(bars: ExitStack, language: str) -> Any:
    """Return what shows a run on stderr: the check, a line per epoch, a bar for its steps."""
    from lushan.train.trainer import Listener

    check_bar, step_bar = ExitStack(), ExitStack()
    bars.push(check_bar)
    bars.push(step_bar)
    look = check_bar.enter_context(progress_bar("check"))
    update: list[Any] = []

    def on_check(check: PictureCheck, root: Path) -> None:
        check_bar.close()
        for problem in _problems(check, root):
            report(problem, language)

    def on_step(progress: Progress, task: Task) -> None:
        if not update:
            update.append(step_bar.enter_context(progress_bar(f"epoch {progress.epoch + 1}")))
        update[0](progress.batch, task.batches.steps)

    def on_epoch(record: Mapping[str, Any]) -> None:
        step_bar.close()
        update.clear()
        with suppress(OSError):
            print(
                f"epoch {record['epoch']}: loss {record['train_loss']:.4g}, "
                f"validation {record['val_loss']:.4g}, top-1 {record['val_top1']:.2%}, "
                f"top-5 {record['val_top5']:.2%}, {record['pictures_per_second']:.0f} pictures/s",
                file=sys.stderr,
            )

    def on_notice(notice: LushanError) -> None:
        report(notice, language)

    return Listener(look, on_check, on_notice, on_step, on_epoch)


def _problems(check: PictureCheck, root: Path) -> list[LushanError]:
    """Return what the check found: each picture that is left out, and each that is there twice."""
    from lushan.train.picture_check import relative_name

    found: list[LushanError] = [
        UsageError("{problem}; it is left out", problem=error) for _, error in check.unreadable
    ]
    for group in check.duplicates[:_SHOWN_DUPLICATES]:
        names = ", ".join(relative_name(sample.path, root) for sample in group)
        if len({sample.label for sample in group}) > 1:
            found.append(UsageError("one picture in several classes: {names}", names=names))
        else:
            found.append(UsageError("the same picture more than once: {names}", names=names))
    more = len(check.duplicates) - _SHOWN_DUPLICATES
    if more > 0:
        found.append(
            UsageError("{count} more pictures are there more than once: see run.json", count=more)
        )
    return found


def _tell(outcome: Outcome, output: Path, language: str, format_: ReportFormat) -> None:
    if not outcome.has_tensorboard:
        notice = MissingExtraError(
            'no events for TensorBoard: they need an extra, pip install "lushan[train]"'
        )
        report(notice, language)
    found = outcome.validation
    if format_ is ReportFormat.json:
        record = {
            "run": str(output),
            "model": outcome.model,
            "epochs": outcome.epochs,
            "kept_epoch": outcome.kept_epoch,
            "images": found.images,
            "top1": found.top1,
            "top5": found.top5,
            "loss": found.loss,
            "errors": [
                {"source": source, "error": error.message(language)}
                for source, error in outcome.unreadable
            ],
        }
        print(to_json(record))
        return
    for name, right in (("top-1", found.top1), ("top-5", found.top5)):
        print(f"{name}       {100 * right / max(1, found.images):6.2f} %  {right} / {found.images}")
    print(f"of epoch    {outcome.kept_epoch} / {outcome.epochs}")
    if outcome.unreadable:
        print(f"left out    {len(outcome.unreadable)}")
    print(f"written to  {output}")
