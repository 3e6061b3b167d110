"""``lushan serve``: recognition over HTTP."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.errors import LushanError, MissingExtraError, UsageError
from lushan.models.zoo import load_model
from lushan.recognizer import Recognizer
from lushan.serve.limits import MIB, Limits  # needs none of the extra

_DEFAULT = Limits()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def serve(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="As elsewhere; NAME=MODEL gives it a name to be asked by. May be repeated.",
        ),
    ] = [DEFAULT_MODEL],  # noqa: B006 (typer takes a list, and does not change it)
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; 0.0.0.0 for every one.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")
    ] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File of keys, one a line; requests need one of them."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", help="Name that requests may give the service. May be repeated."
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", min=1, max=1024, help="Pictures run at once, at most.")
    ] = _DEFAULT.max_batch,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            "--max-delay-ms", min=0, help="How long a picture waits for others to share a run."
        ),
    ] = 1e3 * _DEFAULT.max_delay,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Pictures admitted at once; others get a 503.")
    ] = _DEFAULT.queue,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds to answer a request in.")
    ] = _DEFAULT.timeout,
    max_body_mb: Annotated[
        int, typer.Option("--max-body-mb", min=1, max=1024, help="Size of a request, in MiB.")
    ] = _DEFAULT.max_body // MIB,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=1, help="Pixels of a picture, at most.")
    ] = _DEFAULT.max_pixels,
    threads: ThreadsOption = None,
    lang: LanguageOption = None,
) -> None:
    """Recognise pictures over HTTP until told to stop: docs/serve.md.

    Only this machine can reach the service unless --host says otherwise.
    """
    language = chosen_language(lang)
    with errors_told(language):
        _serve(
            model,
            host,
            port,
            threads,
            language,
            key_file=api_key_file,
            names=allow_host or [],
            max_batch=max_batch,
            max_delay=max_delay_ms / 1e3,
            queue=queue,
            timeout=timeout,
            max_body=max_body_mb * MIB,
            max_pixels=max_pixels,
        )


def _serve(
    models: Sequence[str],
    host: str,
    port: int,
    threads: int | None,
    language: str,
    *,
    key_file: Path | None,
    names: Sequence[str],
    **limited: float,
) -> None:
    try:
        from lushan.serve.app import Service
        from lushan.serve.guard import LOCAL, ApiKeys, is_local
        from lushan.serve.run import address_of, bind, run
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'to serve, an extra is needed: pip install "lushan[serve]" (missing: {module})',
            module=error.name,
        ) from None
    limits = Limits(**limited)  # type: ignore[arg-type]
    keys = None if key_file is None else ApiKeys.from_file(key_file)
    named = _named(models)
    logging.basicConfig(stream=sys.stderr, format="lushan: %(message)s")
    listener = bind(host, port)  # before the models: a port that is taken is told at once
    local = is_local(listener.getsockname()[0])
    if not local and keys is None:
        report(
            LushanError(
                "{address} can be reached from other machines, and no key is asked for: see "
                "--api-key-file",
                address=address_of(listener),
            ),
            language,
        )
    hosts = {*(name.lower() for name in names), *LOCAL, host} if local or names else None
    with ExitStack() as stack:
        stack.enter_context(listener)
        recognizers = [
            stack.enter_context(Recognizer(replace(load_model(source), name=name), threads=threads))
            for name, source in named.items()
        ]
        service = Service(recognizers, limits=limits, keys=keys, hosts=hosts)
        notice = LushanError(
            "serving {models} at {address}", models=", ".join(named), address=address_of(listener)
        )
        run(service, limits, listener, lambda: report(notice, language))


def _named(models: Sequence[str]) -> dict[str, str]:
    """Return each model by the name it is asked by: no answer tells where it lies."""
    named: dict[str, str] = {}
    for text in models:
        name, equals, source = text.partition("=")
        if not equals or os.path.lexists(text):
            name, source = Path(os.path.normpath(text)).name, text
        if not _NAME.fullmatch(name):
            raise UsageError(
                "{name!r} cannot be the name of a model in an address (letters, digits, . _ -): "
                "choose one with --model NAME=MODEL",
                name=name,
            )
        if name in named:
            raise UsageError(
                "two models are called {name}: choose names with --model NAME=MODEL", name=name
            )
        named[name] = source
    return named
