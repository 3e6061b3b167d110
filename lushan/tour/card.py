"""What a model says of its training: figures of its configuration, the table of its card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lushan.models.zoo import Model, bundled_folder, bundled_names

_CARD = "README.md"
_MOST_BYTES = 64 * 1024
_MOST_ROWS = 12
_MOST_LETTERS = 600
_ROW = re.compile(r"^\|\s*([^|]+?)\s*\|\s*([^|]+?)\s*\|\s*$", re.MULTILINE)


def card_data(model: Model) -> dict[str, Any]:
    """Return {"evaluation": counts or None, "rows": [[name, text], …]}."""
    evaluation = model.config.extra.get("evaluation")
    return {
        "evaluation": evaluation if _is_evaluation(evaluation) else None,
        "rows": _rows(model.name),
    }


def _is_evaluation(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(key)) is int for key in ("images", "top1", "top5"))
        and value["images"] > 0
    )


def _rows(name: str) -> list[list[str]]:
    """Return the first table of the model's card, of two columns; nothing where there is none."""
    folder = bundled_folder(name) if name in bundled_names() else Path(name)
    try:
        with (folder / _CARD).open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    rows = [(key, value) for key, value in _ROW.findall(text) if not set(key) <= set("-: ")]
    return [
        [key[:_MOST_LETTERS], _plain(value)[:_MOST_LETTERS]] for key, value in rows[:_MOST_ROWS]
    ]


def _plain(text: str) -> str:
    return text.replace("`", "").replace("**", "")
