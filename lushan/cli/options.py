"""Options that several verbs share, and how they report.

A message is told in the language of ``--lang``, or of the locale without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Annotated

import typer

from lushan.cli.streams import one_line
from lushan.errors import LushanError
from lushan.models.zoo import DEFAULT


class Language(str, Enum):
    """The languages of labels and messages."""

    en = "en"
    zh = "zh"


class RecordFormat(str, Enum):
    """How answers about pictures are printed."""

    text = "text"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


class ReportFormat(str, Enum):
    """How a single report is printed."""

    text = "text"
    json = "json"


ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Bundled name, model folder, weights file, or hub name owner/name."
    ),
]
LanguageOption = Annotated[
    Language | None,
    typer.Option("--lang", help="Language of labels and messages; the locale's if not given."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads to use; every usable core if not given."),
]
DEFAULT_MODEL = DEFAULT


def chosen_language(option: Language | None) -> str:
    """Return the language asked for, else Chinese in a Chinese locale, else English."""
    if option is not None:
        return option.value
    variables = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def report(error: LushanError, lang: str) -> None:
    """Print one line about ``error`` on stderr."""
    with suppress(OSError):  # a full stderr: the exit status still tells
        print(f"lushan: {one_line(error.message(lang))}", file=sys.stderr)


@contextmanager
def errors_told(lang: str) -> Iterator[None]:
    """Turn an error that stops the whole call into one line and exit status 2."""
    try:
        yield
    except LushanError as error:
        report(error, lang)
        raise typer.Exit(2) from error
