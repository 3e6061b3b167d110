"""``lushan classify``: name what is in pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from lushan.cli.inputs import STDIN, expand
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
from lushan.cli.raw_options import (
    RangeOption,
    RawOption,
    SizeOption,
    StandardOption,
    StrideOption,
    raw_layout,
)
from lushan.cli.records import make_writer
from lushan.errors import LushanError
from lushan.recognizer import Predictions, Recognizer, load

if TYPE_CHECKING:
    from lushan.image.frame_stream import RawLayout

_FRAMES_AT_ONCE = 4  # of a file: two batches are in memory, and a 4K frame is 12 MB


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
    raw: RawOption = None,
    size: SizeOption = None,
    stride: StrideOption = None,
    standard: StandardOption = None,
    value_range: RangeOption = None,
) -> None:
    """Name what is in pictures, with probabilities.

    A picture that cannot be read is told on stderr; the exit status is then 1.
    """
    language = chosen_language(lang)
    failed = False
    with errors_told(language):
        layout = raw_layout(raw, size, stride, standard, value_range)
        with load(model, threads=threads) as recognizer:
            top = recognizer.check_top(top, language)
            if layout is None:
                answers, total = _pictures(recognizer, paths, top, language)
            else:
                answers, total = _frames(recognizer, paths, layout, top, language), 0
            writer = make_writer(format_.value, language)
            # On a terminal the answers themselves show the progress; a stream has no end to near.
            with progress_bar("classify", wanted=not sys.stdout.isatty() and total > 0) as progress:
                for done, (name, answer) in enumerate(answers, 1):
                    if isinstance(answer, LushanError):
                        failed = True
                        report(answer, language)
                        writer.failure(name, answer)
                    else:
                        writer.answer(name, answer)
                    progress(done, total)
            writer.close()
    if failed:
        raise typer.Exit(1)


def _pictures(
    recognizer: Recognizer, paths: Iterable[str], top: int, language: str
) -> tuple[Iterator[tuple[str, Predictions | LushanError]], int]:
    """Return the name and the answer of each picture, and how many there are."""
    inputs = list(expand(paths))
    answers = recognizer.classify_many((item.source for item in inputs), top=top, lang=language)
    return zip((item.name for item in inputs), answers, strict=True), len(inputs)


def _frames(
    recognizer: Recognizer, paths: list[str], layout: RawLayout, top: int, language: str
) -> Iterator[tuple[str, Predictions | LushanError]]:
    """Yield the name and the answer of each raw frame, those of a live stream as they come."""
    from lushan.cli.raw_frames import RawFrames

    frames = RawFrames(paths, layout)
    batch = 1 if STDIN in paths else _FRAMES_AT_ONCE
    for answer in recognizer.classify_many(frames.sources(), top=top, lang=language, batch=batch):
        yield frames.names.popleft(), answer
