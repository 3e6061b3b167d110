"""Checking numbers that people write into settings: one error for each kind of mistake."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from lushan.errors import UsageError

Settings = TypeVar("Settings")


def check_number(key: str, value: object, low: float, high: float) -> None:
    """Raise UsageError unless ``value`` is a number from ``low`` to ``high``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type,operator]
        raise UsageError(
            "{key} should be a number from {low} to {high}; received {value}",
            key=key,
            low=low,
            high=high,
            value=reprlib.repr(value),
        )


def check_count(key: str, value: object, low: int, high: int) -> None:
    """Raise UsageError unless ``value`` is a whole number from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise UsageError(
            "{key} should be a whole number from {low} to {high}; received {value}",
            key=key,
            low=low,
            high=high,
            value=reprlib.repr(value),
        )


def check_choice(key: str, value: object, accepted: tuple[object, ...]) -> None:
    """Raise UsageError unless ``value`` is one of ``accepted``."""
    if not any(value is choice or value == choice for choice in accepted):
        raise UsageError(
            "{name} should be one of {accepted}; received {value!r}",
            name=key,
            accepted=", ".join(map(str, accepted)),
            value=value,
        )


def check_pair(key: str, value: object, low: float, high: float) -> None:
    """Raise UsageError unless ``value`` is (smaller, larger), both from ``low`` to ``high``."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise UsageError(
            "{key} should be two numbers; received {value}", key=key, value=reprlib.repr(value)
        )
    check_number(key, value[0], low, high)
    check_number(key, value[1], value[0], high)


def from_mapping(kind: type[Settings], values: object, name: str) -> Settings:
    """Return the dataclass ``kind`` made of a JSON object; lists become tuples.

    Raises UsageError for anything but an object, and for keys that ``kind`` does not have; the
    values are checked by ``kind`` itself.
    """
    if not isinstance(values, Mapping):
        raise UsageError(
            "{name} should be an object of settings; received {value}",
            name=name,
            value=reprlib.repr(values),
        )
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(
                "{name} has no setting {key}; there are {known}",
                name=name,
                key=reprlib.repr(key),
                known=", ".join(known),
            )
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
