"""Fetching a picture from an http(s) address, within a time and a size.

The time is bounded as a whole: a name server, a header or a body that comes byte by byte can each
keep one waiting without ever being late. So the work is done in a thread that is given up on.
"""

from __future__ import annotations

import urllib.request
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from http.client import HTTPException, HTTPMessage
from threading import Event, Thread
from typing import IO
from urllib.error import HTTPError, URLError

from lushan.errors import PictureError

URL_SECONDS = 30  # without a byte
URL_TOTAL_SECONDS = 120
URL_BYTES = 256 * 2**20

_CHUNK = 1 << 16


def fetch(url: str) -> bytes:
    """Return the bytes behind ``url``; raises PictureError if they cannot be had."""
    result: Future[bytes] = Future()
    given_up = Event()

    def work() -> None:
        try:
            result.set_result(_download(url, given_up))
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, name="lushan-fetch", daemon=True).start()
    try:
        return result.result(URL_TOTAL_SECONDS)
    except NotInTime:
        given_up.set()
        raise PictureError(
            "{source}: not all there after {seconds} seconds; fetch it to a file and name that",
            source=url,
            seconds=URL_TOTAL_SECONDS,
        ) from None


class _StayOnTheWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https only; the library would also follow to ftp."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith(("http://", "https://")):
            raise HTTPError(newurl, code, f"redirection to {newurl} is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, given_up: Event) -> bytes:
    opener = urllib.request.build_opener(_StayOnTheWeb)
    content = bytearray()
    try:
        with opener.open(url, timeout=URL_SECONDS) as response:
            while len(content) <= URL_BYTES and not given_up.is_set():
                chunk = response.read(_CHUNK)
                if not chunk:
                    break
                content += chunk
            missing = response.length
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is an open response too
        raise PictureError(
            "{source}: cannot be fetched: {reason}", source=url, reason=_reason(error)
        ) from error
    if len(content) > URL_BYTES:
        raise PictureError(
            "{source}: more than {limit} MiB; fetch it to a file and name that",
            source=url,
            limit=URL_BYTES // 2**20,
        )
    if missing:
        raise PictureError(
            "{source}: only {received} of {expected} bytes arrived; try again",
            source=url,
            received=len(content),
            expected=len(content) + missing,
        )
    return bytes(content)


def _reason(error: Exception) -> str:
    """Return what went wrong in one line, without the wrappings of the libraries."""
    cause = error.reason if type(error) is URLError else error
    text = getattr(cause, "strerror", None) or str(cause) or repr(cause)
    return " ".join(text.split())
