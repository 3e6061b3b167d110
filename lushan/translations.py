"""Chinese for every message that an error can have.

``messages.zh.json`` maps the English templates, exactly as they stand in the code, to Chinese;
``tests/test_translations.py`` reads the source and fails when one is missing there, is left over,
or has other fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def chinese() -> Mapping[str, str]:
    """Return the Chinese template for each English one; read on first use."""
    path = Path(__file__).with_name("messages.zh.json")
    messages: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return messages
