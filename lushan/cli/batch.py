"""``lushan batch``: an archive of pictures, on every core of this machine or of a cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ReportFormat,
    chosen_language,
    errors_told,
)
from lushan.cli.progress import progress_bar
from lushan.cli.streams import to_json
from lushan.errors import MissingExtraError

if TYPE_CHECKING:  # an extra
    from lushan.cluster.batch import Summary

_SECONDS = 30  # between two lines of progress where no one watches


def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders, globs, buckets (s3://…), Parquet columns (FILE.parquet:COLUMN).",
        ),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="Folder of the answers, or address."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    top: Annotated[
        int | None, typer.Option("--top", help="Answers per picture; 5 if not given.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", help="SOURCE are Parquet files; this column has the pictures."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to use; started on this machine if not given."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", help="Recognizers, which share the cores; one a core by default."
        ),
    ] = None,
    part: Annotated[
        int, typer.Option("--part", min=1, help="Pictures of a part, which is a file of OUT.")
    ] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what is in OUT, after whatever crash.")
    ] = False,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the summary.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
) -> None:
    """Recognise an archive into Parquet files, every picture once: docs/batch.md.

    A picture that cannot be read is a row with an error; the exit status is then 1.
    """
    language = chosen_language(lang)
    with errors_told(language):
        try:
            from lushan.cluster.batch import run_batch
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                'to run batches, an extra is needed: pip install "lushan[cluster]" (missing: '
                "{module})",
                module=error.name,
            ) from None
        with progress_bar("batch") as bar:
            summary = run_batch(
                sources,
                output,
                model=model,
                address=address,
                workers=workers,
                top=top,
                lang=language,
                column=column,
                part=part,
                resume=resume,
                progress=bar if sys.stderr.isatty() else _lines(),
            )
    print(to_json(asdict(summary)) if format_ is ReportFormat.json else _text(summary))
    if summary.errors:
        raise typer.Exit(1)


def _lines() -> Callable[[int, int], None]:
    """Return a function that tells on stderr, now and then, how far it is: for logs."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS:
            last = now
            print(f"batch {done} / {total}", file=sys.stderr, flush=True)

    return tell


def _text(summary: Summary) -> str:
    lines = [
        f"pictures   {summary.pictures:>12,}",
        f"errors     {summary.errors:>12,}",
    ]
    if summary.done_before:
        lines.append(f"before     {summary.done_before:>12,}")
    if summary.workers:
        lines += [
            f"workers    {summary.workers:>12,}  × {summary.threads} threads",
            f"seconds    {summary.recognising_seconds:>12,.1f}  "
            f"+ {summary.listing_seconds:.1f} listing + {summary.starting_seconds:.1f} starting",
            f"pictures/s {summary.pictures_per_second:>12,.1f}",
        ]
    if summary.deaths:
        lines.append(f"died       {summary.deaths:>12,}  workers, replaced")
    return "\n".join([*lines, f"answers in {summary.output}"])
