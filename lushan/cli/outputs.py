"""Where a verb writes a file: what would fail after long work is refused before it."""

from __future__ import annotations

from pathlib import Path

from lushan.errors import UsageError


def check_writable(output: Path) -> None:
    """Raise UsageError where ``output`` is a folder, or its folder is not there."""
    if output.is_dir():
        raise UsageError("{path}: a folder; name a file to write", path=str(output))
    if not output.absolute().parent.is_dir():
        raise UsageError("{path}: cannot be written there: no such folder", path=str(output))
