"""``lushan classify``: name what is in pictures."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lushan.cli.inputs import expand
from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    RecordFormat,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.progress import progress_bar
from lushan.cli.records import make_writer
from lushan.errors import LushanError
from lushan.recognizer import load


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, globs, - for stdin, http(s) URLs."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    top: Annotated[
        int | None, typer.Option("--top", help="Answers per picture; 5 if not given.")
    ] = None,
    format_: Annotated[
        RecordFormat, typer.Option("--format", "-f", help="How to print the answers.")
    ] = RecordFormat.text,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Name what is in pictures, with probabilities.

    A picture that cannot be read is told on stderr; the exit status is then 1.
    """
    language = chosen_language(lang)
    failed = False
    with errors_told(language), load(model, threads=threads) as recognizer:
        inputs = list(expand(paths))
        answers = recognizer.classify_many((item.source for item in inputs), top=top, lang=language)
        writer = make_writer(format_.value, language)
        # On a terminal the answers themselves show the progress.
        with progress_bar("classify", wanted=not sys.stdout.isatty()) as progress:
            for done, (item, answer) in enumerate(zip(inputs, answers, strict=True), 1):
                if isinstance(answer, LushanError):
                    failed = True
                    report(answer, language)
                    writer.failure(item.name, answer)
                else:
                    writer.answer(item.name, answer)
                progress(done, len(inputs))
        writer.close()
    if failed:
        raise typer.Exit(1)
