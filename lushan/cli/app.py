"""The ``lushan`` command: its verbs in one list."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from lushan import __version__
from lushan.cli.bench import bench
from lushan.cli.classify import classify
from lushan.cli.evaluate import evaluate
from lushan.cli.explain import explain
from lushan.cli.info import info
from lushan.cli.models import models
from lushan.cli.options import chosen_language, report
from lushan.cli.quantize import quantize
from lushan.cli.serve import serve
from lushan.cli.streams import discard_output, prepare_streams
from lushan.cli.tour import tour
from lushan.cli.train import train
from lushan.errors import LushanError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count

app = typer.Typer(
    name="lushan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (classify, evaluate, explain, info, models, quantize, serve, tour, train):
    app.command()(verb)
app.add_typer(bench)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lushan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    """Recognise pictures with ResNet on an ordinary CPU, and see how the answer came about."""


def main() -> None:
    """Run the command line; this is the entry point of ``lushan``."""
    # Pillow warns of damage that it could work around; the answer's report is what counts.
    warnings.filterwarnings("ignore", module="PIL")
    status = _run()
    if status == _INTERRUPTED:
        # At once: a thread may be waiting for a pipe or an address, and Python would wait for it.
        os._exit(status)
    sys.exit(status)


def _run() -> int:
    """Run the command line to its end, whatever that is, and return the exit status."""
    language = chosen_language(None)
    try:
        prepare_streams()
        status = _run_verb()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away (``lushan … | head``): no error
        discard_output()
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except LushanError as error:
        report(error, language)
    except MemoryError:
        report(LushanError("not enough memory: give smaller pictures or a smaller model"), language)
    except OSError as error:
        discard_output()
        reason = error.strerror or str(error)
        report(
            LushanError("{source}: {problem}", source=error.filename, problem=reason)
            if error.filename
            else LushanError("the answer cannot be written: {reason}", reason=reason),
            language,
        )
    else:
        return status
    return 2


def _run_verb() -> int:
    """Hand over to typer, which ends every run with SystemExit, and return the status."""
    try:
        app()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # typer would call it a failure
            raise ending.__context__ from None
        return ending.code if isinstance(ending.code, int) else 0
    return 0
