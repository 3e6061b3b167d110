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
from lushan.image.files import find_pictures

URL_SECONDS = 30
URL_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Input:
    """One picture: what to call it, and a path or a function that gives its bytes."""

    name: str
    source: str | Callable[[], io.BytesIO]


def expand(words: Iterable[str]) -> Iterator[Input]:
    """Yield the pictures that ``words`` name, in order; folders and globs sorted."""
    for word in words:
        if word == "-":
            yield Input(word, _read_stdin)
        elif word.lower().startswith(("http://", "https://")):
            yield Input(word, partial(_fetch, word))
        elif os.path.isdir(word):
            yield from _many(word, map(str, find_pictures(Path(word))))
        elif not os.path.lexists(word) and glob.has_magic(word):
            found = sorted(glob.glob(word, recursive=True))
            yield from _many(word, (path for path in found if os.path.isfile(path)))
        else:
            yield Input(word, word)


class _NamedBytes(io.BytesIO):
    """Bytes of a picture with the name that messages call it by."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _many(word: str, paths: Iterable[str]) -> Iterator[Input]:
    empty = True
    for path in paths:
        empty = False
        yield Input(path, path)
    if empty:
        yield Input(word, partial(_nothing_there, word))


def _nothing_there(word: str) -> NoReturn:
    raise PictureError("{source}: no pictures there", source=word)


def _read_stdin() -> io.BytesIO:
    return _NamedBytes(sys.stdin.buffer.read(), "<stdin>")


def _fetch(url: str) -> io.BytesIO:
    """Return the bytes behind ``url``; raises PictureError if they cannot be had."""
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=URL_SECONDS) as response:
            data = response.read(URL_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()  # it is an open response too
        raise PictureError(
            "{source}: cannot be fetched: {reason}", source=url, reason=str(error)
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PictureError(
            "{source}: cannot be fetched: {reason}", source=url, reason=str(error) or repr(error)
        ) from error
    if len(data) > URL_BYTES:
        raise PictureError(
            "{source}: more than {limit} MiB; fetch it to a file and name that",
            source=url,
            limit=URL_BYTES // 2**20,
        )
    return _NamedBytes(data, url)
