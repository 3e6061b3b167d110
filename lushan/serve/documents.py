"""Whole documents that answer a question: tours, and pages that say why there is none.

A tour is opened as a page of its own. It may run exactly the scripts and use exactly the style
sheets that are in it, by their hashes, and nothing else: no request to anywhere, no form, no frame.
The sandbox gives it an origin of its own, so that it cannot use the service either.
"""

from __future__ import annotations

import base64
import hashlib
import html
from html.parser import HTMLParser

from starlette.responses import HTMLResponse, Response

from lushan.serve.refusal import RefusalError

_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1.5em}"
    ":root{color-scheme:light dark}"
)
_TITLES = {"en": "No explanation", "zh": "无法讲解"}
_AGAIN = {"en": "Try again", "zh": "再试一次"}


def sandboxed(content: bytes) -> Response:
    """Return a document as a response, shut in with exactly the code that it brings."""
    policy = _policy(content.decode("utf-8")) + "; sandbox allow-scripts allow-popups"
    return HTMLResponse(content, headers={"Content-Security-Policy": policy})


def refused(refusal: RefusalError, language: str) -> Response:
    """Return a page that tells people why there is no document."""
    again = f'<p><a href="">{_AGAIN[language]}</a>' if refusal.status == 503 else ""
    content = (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>lushan</title>'
        f"<style>{_STYLE}</style><main><h1>{_TITLES[language]}</h1>"
        f"<p>{html.escape(refusal.error.message(language))}{again}</main></html>"
    )
    headers = {**refusal.headers, "Content-Security-Policy": _policy(content)}
    return HTMLResponse(content, refusal.status, headers)


def _policy(content: str) -> str:
    code = _Code()
    code.feed(content)
    code.close()
    attributes = " 'unsafe-inline'" if code.style_attributes else " 'none'"
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hashes(code.texts['script'])}; "
        f"style-src-elem {_hashes(code.texts['style'])}; style-src-attr{attributes}"
    )


def _hashes(texts: list[str]) -> str:
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests) or "'none'"


class _Code(HTMLParser):
    """Collects what runs and what styles in a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.style_attributes = False
        self._inside: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin to collect."""
        self.style_attributes |= any(name == "style" for name, _ in attrs)
        if tag in self.texts:
            self.texts[tag].append("")
            self._inside = self.texts[tag]

    def handle_endtag(self, tag: str) -> None:
        """Stop collecting."""
        if tag in self.texts:
            self._inside = None

    def handle_data(self, data: str) -> None:
        """Collect."""
        if self._inside is not None:
            self._inside[-1] += data
