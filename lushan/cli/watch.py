"""``lushan watch``: what a camera, a video or a stream of raw frames shows, a line an answer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.raw_options import (
    RangeOption,
    RawOption,
    SizeOption,
    StandardOption,
    StrideOption,
    raw_layout,
)
from lushan.cli.streams import to_json
from lushan.errors import LushanError, MissingExtraError, PictureError, UsageError
from lushan.recognizer import load

if TYPE_CHECKING:  # loaded with the first frame: other verbs need none
    from lushan.stream.timed_frame import FrameSource
    from lushan.stream.watch import Canvas, Watch


def watch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video, an address (rtsp://…), a camera (/dev/video0), a picture; with --raw a "
            "file of raw frames, - for stdin.",
        ),
    ],
    model: ModelOption = DEFAULT_MODEL,
    top: Annotated[
        int | None, typer.Option("--top", help="Classes per answer; 5 if not given.")
    ] = None,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Recognise each Nth frame only.")
    ] = 1,
    smooth: Annotated[
        float, typer.Option("--smooth", help="Average scores over about this many seconds.")
    ] = 0.0,
    on_change: Annotated[
        bool, typer.Option("--on-change", help="A line only when the best class has changed.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option("--settle", help="Seconds that it must have held by then (--on-change)."),
    ] = 0.5,
    annotate: Annotated[
        Path | None,
        typer.Option("--annotate", help="Write a video (.mp4) with the answers in its corner."),
    ] = None,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--every-frame",
            help="Drop frames that there is no time for, or read all; cameras are live, files not.",
        ),
    ] = None,
    raw: RawOption = None,
    size: SizeOption = None,
    stride: StrideOption = None,
    standard: StandardOption = None,
    value_range: RangeOption = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Raw frames a second; the clock's if not given.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=0, max=65535, help="Serve counts to Prometheus here."),
    ] = None,
    threads: ThreadsOption = None,
    lang: LanguageOption = None,
) -> None:
    """Tell what a camera or a video shows: a JSON line per answer, until it ends or Ctrl-C.

    The exit status is 1 where the source broke off or had damaged frames.
    """
    language = chosen_language(lang)
    broken = False
    with errors_told(language), ExitStack() as stack:
        from lushan.stream.sources import open_source
        from lushan.stream.watch import Watch

        layout = raw_layout(raw, size, stride, standard, value_range)
        if rate is not None and not 0 < rate < float("inf"):
            raise UsageError("rate should be above 0 frames a second; received {rate}", rate=rate)
        recognizer = stack.enter_context(load(model, threads=threads))
        frames = open_source(source, layout=layout, rate=rate, threads=recognizer.threads)
        canvas = None if annotate is None else stack.enter_context(_canvas(annotate, source))
        watching = stack.enter_context(
            Watch(
                recognizer,
                frames,
                every=every,
                smooth=smooth,
                on_change=on_change,
                settle=settle,
                top=top,
                lang=language,
                live=live,
                canvas=canvas,
                told=lambda error: report(error, language),
            )
        )
        stack.enter_context(_ended_by_signals(watching))
        if metrics_port is not None:
            stack.callback(_metrics(watching, metrics_port))
        broken = _tell(watching, frames, language)
    if broken:
        raise typer.Exit(1)


def _tell(watching: Watch, source: FrameSource, language: str) -> bool:
    """Print the answers and, at the end, the counts; return whether anything was broken."""
    broken = False
    try:
        for answer in watching:
            print(to_json(answer.to_dict()), flush=True)
    except PictureError as error:
        if not watching.counts.frames:
            raise
        report(error, language)
        broken = True
    totals = watching.totals()
    report(
        LushanError(
            "{source}: {frames} frames, {answered} recognised, {dropped} dropped, {damaged} "
            "damaged, opened again {reopened} times; {rate:.1f} frames a second",
            source=source.name,
            rate=watching.rate(),
            **totals,
        ),
        language,
    )
    return broken or totals["damaged"] > 0


@contextmanager
def _ended_by_signals(watching: Watch) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the watch after the frame at hand, a second one at once."""

    def end(number: int, frame: FrameType | None) -> None:
        watching.stop()
        signal.signal(number, before[number])

    before = {int(one): signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _canvas(path: Path, source: str) -> Iterator[Canvas]:
    """Yield the video to draw on. Raises UsageError where it would overwrite its own source."""
    same = False
    with suppress(OSError, ValueError):  # either is not there: no danger
        same = path.samefile(source)
    if same:
        raise UsageError("{path} is the source itself: name another file", path=str(path))
    with _extra("av"):
        from lushan.stream.annotation import AnnotatedVideo
    with AnnotatedVideo(path) as video:
        yield video


def _metrics(watching: Watch, port: int) -> Callable[[], None]:
    with _extra("prometheus_client"):
        from lushan.stream.metrics import serve_metrics
    return serve_metrics(watching, port)


@contextmanager
def _extra(module: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError:
        raise MissingExtraError(
            'to watch videos and cameras, an extra is needed: pip install "lushan[video]" '
            "(missing: {module})",
            module=module,
        ) from None
