"""Standard output and messages as they are found: closed, full, in any encoding, read by no one.

A name of a file or a class may hold anything, and so may the terminal's encoding be anything: what
is printed always fits, and one message is one line.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

from lushan.errors import UsageError

# Controls would move the cursor or break the line; so would the two separators of Unicode.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def prepare_streams() -> None:
    """Make stdout and stderr take every text. Raises UsageError when stdout is closed."""
    if sys.stderr is None:  # closed by whoever started us: print would turn to stdout instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (stays open)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:
        raise UsageError("standard output is closed: there is nowhere to write the answer to")


def discard_output() -> None:
    """Let what is still to be written to stdout vanish: whoever read it is gone, or it is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(text: str) -> str:
    r"""Return ``text`` with control characters spelled out, as in ``\n``."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def to_json(value: object) -> str:
    """Return ``value`` as JSON, with escapes only where the encoding of stdout needs them.

    Raises ValueError for a NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text
