"""Pictures are kept within bounds of number, bytes and time, under ids that nobody guesses."""

from __future__ import annotations

from lushan.serve.kept import Store
from lushan.serve.limits import Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bounded_in_number_bytes_and_time() -> None:
    clock = Clock()
    store = Store(Limits(kept_pictures=3, kept_bytes=100, kept_seconds=60), clock)
    first, second, third = (store.put("m", bytes(10)) for _ in range(3))
    assert first and second and third
    assert (len(store), store.bytes) == (3, 30)
    fourth = store.put("m", bytes(10))
    assert store.get(first) is None
    assert store.get(second) is not None
    large = store.put("n", bytes(95))
    assert large is not None
    assert (len(store), store.bytes) == (1, 95)
    assert fourth and store.get(fourth) is None
    assert store.put("n", bytes(101)) is None
    kept = store.get(large)
    assert kept is not None
    assert (kept.model, kept.data) == ("n", bytes(95))
    clock.now = 60
    assert store.get(large) is None
    assert (len(store), store.bytes) == (0, 0)


def test_ids_are_long_and_differ() -> None:
    store = Store(Limits())
    ids = {store.put("m", b"the same") for _ in range(50)}
    assert len(ids) == 50
    assert all(one is not None and len(one) >= 24 for one in ids)
    assert store.get("") is None


def test_nothing_is_kept_where_there_is_no_room() -> None:
    assert Store(Limits(kept_pictures=0)).put("m", b"x") is None
