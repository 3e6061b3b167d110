"""Texts of strangers inside messages: made printable, and cut where they are long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str, length: int = 100) -> str:
    """Return text from a file made fit for a message: short, one line, no control characters."""
    plain = ascii(text[:length])[1:-1]
    return plain + ("..." if len(text) > length else "")


def first_few(names: Sequence[str], most: int = 10) -> str:
    """Return the first few names and how many more there are: a list of a thousand helps nobody."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f", … (+{more})" if more > 0 else "")


def nearest(word: str, words: Iterable[str], most: int = 3) -> str:
    """Return the few of ``words`` that look most like ``word``, whatever their case."""
    from difflib import get_close_matches  # only a mistake needs it

    folded: dict[str, str] = {}
    for known in words:
        folded.setdefault(known.casefold(), known)
    found = get_close_matches(word[:100].casefold(), folded, most, cutoff=0.0)
    return ", ".join(folded[match] for match in found)
