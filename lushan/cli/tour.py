"""``lushan tour``: one page that shows the way of a picture through a network, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lushan.atomic_file import replacing
from lushan.cli.inputs import Input, expand
from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.outputs import check_writable
from lushan.cli.streams import one_line
from lushan.errors import PictureError, UsageError
from lushan.recognizer import load

SUFFIXES = (".html", ".htm")


def tour(
    picture: Annotated[
        str, typer.Argument(metavar="PICTURE", help="A file, - for stdin, or an http(s) URL.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="The page, a file ending in .html."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Show in one page how a picture became its answer, from the pixels on."""
    language = chosen_language(lang)
    with errors_told(language):
        _check(output)
        item = _one(picture)
        from lushan.tour import page  # other verbs start without it

        try:
            with load(model, threads=threads) as recognizer:
                source = item.source() if callable(item.source) else item.source
                html = page(recognizer, source, language)
        except PictureError as error:
            report(error, language)
            raise typer.Exit(1) from error
        _write(output, html)
    print(one_line(f"{item.name}  → {output}"))


def _check(output: Path) -> None:
    """Refuse now what would fail after long work."""
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            "{path}: name a file ending in {suffixes}: the tour is a web page",
            path=str(output),
            suffixes=", ".join(SUFFIXES),
        )
    check_writable(output)


def _one(word: str) -> Input:
    """Return the one picture that ``word`` names."""
    inputs = list(expand([word]))
    if len(inputs) != 1:
        raise UsageError("{word}: {count} pictures; tour takes one", word=word, count=len(inputs))
    return inputs[0]


def _write(output: Path, html: str) -> None:
    """Write the page, whole or not at all."""
    try:
        with replacing(output) as temporary:
            temporary.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(
            "{path}: cannot be written: {reason}",
            path=str(output),
            reason=error.strerror or error,
        ) from None
