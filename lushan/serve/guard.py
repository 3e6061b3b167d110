"""Who may ask, and what every answer carries. Wraps the routes; no request gets around it.

Pages of other origins may not use the service from within a browser: there is no CORS, a request
with a foreign ``Origin`` is refused, and where the service listens to this machine alone, so is a
foreign name in ``Host``, under which a page could make itself appear as the service's own.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lushan.errors import UsageError
from lushan.serve.metrics import Metrics
from lushan.serve.receiving import ClientGoneError
from lushan.serve.refusal import RefusalError, refusal_of

LOG = logging.getLogger("lushan.serve")
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
SHORTEST_KEY = 16
# Open without a key: for whoever restarts services; the page, which asks for the key; explanations,
# for there the picture's id is one: who sent the picture got it.
_OPEN = ("/v2/health/live", "/v2/health/ready", "/", "/v1/explain")
_OPEN_FOLDER = "/web/"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class ApiKeys:
    """The keys that open the service; how long a comparison takes says nothing about them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """Read one key per line; empty lines and those with ``#`` before them do not count.

        Raises UsageError where there is no key, or one that could be guessed.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text in UTF-8"
            raise UsageError(
                "{source}: cannot be read ({reason})", source=str(path), reason=reason
            ) from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UsageError("{source}: there is no key in it", source=str(path))
        if min(map(len, keys)) < SHORTEST_KEY:
            raise UsageError(
                "{source}: a key has fewer than {least} characters and could be guessed; a good "
                "one is made by openssl rand -hex 32",
                source=str(path),
                least=SHORTEST_KEY,
            )
        return cls(keys)

    def accept(self, headers: Headers) -> bool:
        """Return whether a request brings a key, as ``Authorization: Bearer`` or ``X-API-Key``."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key", "")
        given = _digest(key.strip())
        right = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(right)


class Guard:
    """``app`` behind the checks; ``hosts`` None takes any name in Host."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, keys: ApiKeys | None, hosts: Collection[str] | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._keys = keys
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong becomes an answer."""
        if scope["type"] != "http":
            return
        scope["app"] = self._app  # with it, the router raises what it does not find
        status = 0
        start = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            try:
                self._check(scope)
                await self._app(scope, receive, send_with_headers)
            except ClientGoneError:
                self._metrics.error("gone")
            except Exception as error:
                if status:  # half an answer is out
                    raise
                response = self._refuse(error, language_of(scope))
                await response(scope, receive, send_with_headers)
        except Exception as error:
            log_error(error)
        finally:
            endpoint = scope.get("endpoint")
            route = getattr(endpoint, "__name__", "none").strip("_")
            self._metrics.request(route, status)
            self._metrics.phase("", "total", time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        """Raise RefusalError for a request that may not be answered."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            error = UsageError("the service is not known under this name: see --allow-host")
            raise RefusalError(403, "host", error)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise RefusalError(403, "origin", UsageError("pages of other origins may not ask"))
        path: str = scope["path"]
        is_open = path in _OPEN or path.startswith(_OPEN_FOLDER)
        if self._keys and not is_open and not self._keys.accept(headers):
            error = UsageError("a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
            raise RefusalError(401, "key", error)

    def _refuse(self, error: Exception, language: str) -> Response:
        if isinstance(error, HTTPException):
            reason = "no such page" if error.status_code == 404 else "no such method here"
            self._metrics.error("route")
            body = {"error": reason, "kind": "route"}
            return JSONResponse(body, error.status_code, error.headers)
        refusal = refusal_of(error)
        self._metrics.error(refusal.kind)
        if refusal.status == 500:
            log_error(error)
        return JSONResponse(
            {"error": refusal.error.message(language), "kind": refusal.kind},
            refusal.status,
            refusal.headers,
        )


def is_local(address: str) -> bool:
    """Return whether only this machine can reach ``address``."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def language_of(scope: Scope) -> str:
    """Return the language that a request asks for; English for what is none."""
    return "zh" if Request(scope).query_params.get("lang") == "zh" else "en"


def log_error(error: BaseException) -> None:
    """Log what kind of error happened where, and nothing of what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-3:]]
    LOG.error("internal error: %s in %s", type(error).__name__, " < ".join(reversed(places)))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _name_of(host: str) -> str:
    """Return the host of "host:port", which is lower case and, for IPv6, without brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
