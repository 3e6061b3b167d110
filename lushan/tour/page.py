"""The page: one HTML file with data, texts, style and code inside; nothing is fetched.

``web/`` has the parts as files of their own. They are joined here in a fixed order; there is no
build step and no library. The page's own policy forbids every request.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from lushan.errors import UsageError
from lushan.image.decode import Picture, PictureSource
from lushan.recognizer import LANGUAGES, Recognizer
from lushan.tour.data import page_data

_SCRIPTS = (
    "core.js",
    "numbers.js",
    "draw.js",
    "cells.js",
    "picture.js",
    "colour.js",
    "convolution.js",
    "features.js",
    "network.js",
    "activation.js",
    "answer.js",
    "use.js",
    "start.js",
)


def page(recognizer: Recognizer, picture: PictureSource | Picture, language: str = "en") -> str:
    """Return the tour of ``picture`` through the recognizer's network, as an HTML page.

    ``picture`` is what ``Recognizer.classify`` takes, or a decoded picture. Both languages are in
    the page; ``language``, "en" or "zh", is the one it opens in. Raises PictureError for a picture
    that cannot be read, UsageError for an int8 model and another language, ModelError for weights
    that give no numbers.
    """
    if language not in LANGUAGES:
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name="language",
            accepted=", ".join(LANGUAGES),
            value=language,
        )
    parts = {
        "language": language,
        "style": _read("web/style.css"),
        "script": _script(),
        "texts": _texts(),
        "data": _json(page_data(recognizer, picture)),
    }
    html = _read("web/page.html")
    for name, part in parts.items():
        html = html.replace(f"⟦{name}⟧", part, 1)
    return html


@cache
def _script() -> str:
    return "\n".join(_read(f"web/{name}") for name in _SCRIPTS)


@cache
def _texts() -> str:
    return _json({language: json.loads(_read(f"texts/{language}.json")) for language in LANGUAGES})


@cache
def _read(name: str) -> str:
    return resources.files("lushan.tour").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    """Return JSON that may stand inside a script element: no ``<`` can end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
