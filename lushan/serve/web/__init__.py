"""The page: files as they are, read once. No build step, and no request to anywhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # ask whether it is new: the answer is a 304
}


def routes() -> list[Route]:
    """Return the routes of the page and its files."""
    found = []
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in _TYPES:
            address = "/" if path.name == "index.html" else f"/web/{path.name}"
            file = _File(path.read_bytes(), _TYPES[path.suffix])
            found.append(Route(address, file.page))
    return found


class _File:
    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        self._headers = {**_HEADERS, "Content-Type": media_type, "ETag": self._tag}

    async def page(self, request: Request) -> Response:
        """Answer with the file, or that it has not changed."""
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)
