"""Turns are taken in order, one at a time, with rests between."""

from __future__ import annotations

import time

import pytest

from lushan.bench import turns


def test_each_round_gives_each_contestant_a_turn_after_a_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[object] = []
    monkeypatch.setattr(turns, "REST_SECONDS", 0.25)
    monkeypatch.setattr(time, "sleep", events.append)
    told: list[tuple[int, int]] = []
    seconds = turns.take_turns(
        {"a": lambda: events.append("a"), "b": lambda: events.append("b")},
        2,
        progress=lambda done, total: told.append((done, total)),
    )
    # The first call of a turn wakes the contestant up, and is not timed.
    assert events == [0.25, "a", "a", 0.25, "b", "b"] * 2
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert told == [(1, 2), (2, 2)]


def test_short_calls_are_timed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(turns, "TURN_SECONDS", 10)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    seconds = turns.take_turns({"a": lambda: None}, 1)
    # Two readings of the clock a call; the first reading of the turn was 0, so it ends from 10 on.
    assert seconds == {"a": [1, 1, 1, 1, 1]}
