"""``lushan evaluate``: count correct answers on a folder of labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ReportFormat,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.progress import progress_bar
from lushan.cli.streams import to_json
from lushan.errors import UsageError
from lushan.evaluation import evaluate as count
from lushan.recognizer import load


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder with one folder of pictures per class."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the counts.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Count correct answers on labelled pictures.

    Folders in DIR are called after the ids of the model's classes.
    """
    language = chosen_language(lang)
    with errors_told(language), load(model, threads=threads) as recognizer:
        with progress_bar("evaluate") as progress:
            counts = count(recognizer, folder, progress=progress)
        for _, error in counts.errors:
            report(error, language)
        if counts.unlabelled:
            notice = UsageError(
                "{folder}: {count} pictures lie directly in it, in the folder of no class; they "
                "are not counted",
                folder=str(folder),
                count=counts.unlabelled,
            )
            report(notice, language)
        if format_ is ReportFormat.json:
            errors = [
                {"source": source, "error": error.message(language)}
                for source, error in counts.errors
            ]
            record = {
                "images": counts.images,
                "top1": counts.top1,
                "top5": counts.top5,
                "errors": errors,
                "model": model,
            }
            print(to_json(record))
        else:
            for name, right in (("top-1", counts.top1), ("top-5", counts.top5)):
                share = 100 * right / max(1, counts.images)
                print(f"{name}  {share:6.2f} %  {right} / {counts.images}")
            if counts.errors:
                print(f"failed {len(counts.errors)}")
    if counts.errors:
        raise typer.Exit(1)
