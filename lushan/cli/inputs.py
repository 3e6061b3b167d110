"""What the words PATH… of a command stand for: files, folders, globs, stdin, URLs.

An address is fetched when its turn comes, by the thread that decodes it. An input that cannot be
had (a folder without pictures, an address that does not answer) fails in its place, so that the
others are still answered.
"""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from lushan.errors import PictureError
from lushan.image.files import find_pictures, is_file
from lushan.image.sources import NamedBytes, read_all, source_name

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One picture: what reports call it too, and a path or a function that gives its bytes."""

    name: str
    source: str | Callable[[], io.BytesIO]


def expand(words: Iterable[str]) -> Iterator[Input]:
    """Yield the pictures that ``words`` name, in order; folders and globs sorted."""
    for word in words:
        if word == STDIN:
            yield Input(word, _read_stdin)
        elif word.lower().startswith(("http://", "https://")):
            yield Input(word, partial(_fetch, word))
        elif os.path.isdir(word):
            unreadable: list[PictureError] = []
            found = find_pictures(Path(word), on_error=unreadable.append)
            yield from _many(word, map(str, found), unreadable)
        elif not os.path.lexists(word) and glob.has_magic(word):
            yield from _many(word, filter(is_file, sorted(glob.glob(word, recursive=True))))
        else:
            yield Input(source_name(word), word)


def _many(
    word: str, paths: Iterable[str], unreadable: Iterable[PictureError] = ()
) -> Iterator[Input]:
    """Yield the pictures at ``paths``, then the folders that ``paths`` found ``unreadable``."""
    empty = True
    for path in paths:
        empty = False
        yield Input(source_name(path), path)
    for error in unreadable:
        empty = False
        yield Input(str(error.values["source"]), partial(_raise, error))
    if empty:
        yield Input(word, partial(_raise, PictureError("{source}: no pictures there", source=word)))


def _raise(error: PictureError) -> NoReturn:
    raise error


def _read_stdin() -> io.BytesIO:
    if sys.stdin is None:
        raise PictureError("{source}: standard input is closed", source=STDIN)
    return NamedBytes(read_all(sys.stdin.buffer, STDIN), STDIN)


def _fetch(url: str) -> io.BytesIO:
    from lushan.cli.fetch import fetch  # most calls name no address: they start faster without

    return NamedBytes(fetch(url), url)
