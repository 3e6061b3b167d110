"""What can be asked about a picture that was just sent, read from an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lushan.errors import UsageError
from lushan.recognizer import LANGUAGES
from lushan.text import printable

# The parameters that each method listens to, beside lang.
METHODS: Mapping[str, frozenset[str]] = {
    "cam": frozenset({"class", "format"}),
    "gradcam": frozenset({"class", "layer", "format"}),
    "occlusion": frozenset({"class", "format"}),
    "guided": frozenset({"class", "layer", "channel", "format"}),
    "deconvnet": frozenset({"layer", "channel", "format"}),
    "layers": frozenset(),
    "arithmetic": frozenset({"layer", "channel", "row", "column"}),
    "tour": frozenset(),
}
FORMATS = ("json", "png")
_NUMBERS = ("class", "channel", "row", "column")


@dataclass(frozen=True)
class Question:
    """One question; numbers and the layer are None where the address does not have them."""

    method: str
    language: str = LANGUAGES[0]
    format: str = FORMATS[0]
    class_index: int | None = None
    layer: str | None = None
    channel: int | None = None
    row: int | None = None
    column: int | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Question:
        """Return what ``query`` asks; raises UsageError for what cannot be asked."""
        method = _one_of("method", query.get("method", "cam"), tuple(METHODS))
        for name in query:
            if name not in {"id", "method", "lang", *METHODS[method]}:
                raise UsageError(
                    "{method} takes no {name}; it takes: {known}",
                    method=method,
                    name=printable(name),
                    known=", ".join(sorted({"id", "lang", *METHODS[method]})),
                )
        numbers = {name: whole_number(name, query.get(name)) for name in _NUMBERS}
        question = cls(
            method,
            _one_of("lang", query.get("lang", LANGUAGES[0]), LANGUAGES),
            _one_of("format", query.get("format", FORMATS[0]), FORMATS),
            numbers["class"],
            query.get("layer"),
            numbers["channel"],
            numbers["row"],
            numbers["column"],
        )
        question._check()
        return question

    def _check(self) -> None:
        if self.method in ("deconvnet", "arithmetic") and self.layer is None:
            raise UsageError("{method} needs a layer: method=layers lists them", method=self.method)
        if self.method == "arithmetic" and self.channel is None:
            raise UsageError("{method} needs a channel", method=self.method)
        if (self.row is None) != (self.column is None):
            raise UsageError("row and column go together: give both, or none")
        if self.method == "guided":
            if self.layer is not None and self.class_index is not None:
                raise UsageError("guided starts at a class or at a layer: give one of them")
            if self.layer is None and self.channel is not None:
                raise UsageError("a channel needs its layer: method=layers lists them")


def whole_number(name: str, text: str | None) -> int | None:
    """Return the whole number that ``text`` is; raises UsageError where it is none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(
            "{name} should be a whole number; received {value}",
            name=name,
            value=printable(text),
        )
    return int(text)


def _one_of(name: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name=name,
            accepted=", ".join(accepted),
            value=printable(value),
        )
    return value
