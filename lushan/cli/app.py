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
from lushan.cli.info import info
from lushan.cli.models import models

app = typer.Typer(
    name="lushan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (classify, evaluate, info, models):
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
    try:
        app()
    except BrokenPipeError:
        # The reader went away (``lushan … | head``): no error, but nothing may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        print(f"lushan: {error}", file=sys.stderr)
        sys.exit(2)
