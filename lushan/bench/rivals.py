"""Who may compete: a peer that computes the same, with the setting that is its fastest here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from lushan.bench.turns import take_turns
from lushan.errors import BenchmarkError, LushanError

T = TypeVar("T")


def fastest_setting(
    peer: str,
    prepare: Callable[[], Mapping[str, Callable[[], T]]],
    check: Callable[[str, Callable[[], T]], None],
    rounds: int,
) -> tuple[str, Callable[[], T]]:
    """Return the setting of ``peer`` that took the least time in a short trial, and its call.

    ``prepare`` returns a call for each setting; ``check`` raises BenchmarkError for one, under the
    name it is given, that computes something else. Whatever else fails in the peer, a foreign
    library, becomes a BenchmarkError that names it.
    """
    try:
        calls = prepare()
        for setting, call in calls.items():
            check(f"{peer} ({setting})", call)
        trial = take_turns(calls, rounds if len(calls) > 1 else 0)
    except LushanError:
        raise
    except Exception as error:
        raise BenchmarkError(
            "{peer} is left out: it fails on this network ({reason})",
            peer=peer,
            reason=repr(error),
        ) from error
    best = min(calls, key=lambda setting: min(trial[setting], default=0.0))
    return best, calls[best]
