"""Records: what ``dataclass(frozen=True)`` promises, held against it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from functools import cached_property
from typing import Any, ClassVar

import pytest

from lushan.record import as_dict, field, field_names, record, replace


def _classes(decorate: Any, describe: Any) -> tuple[Any, Any]:
    """Return a class and one that inherits from it, both decorated in the same way."""

    @decorate
    class Point:
        unit: ClassVar[str] = "pixel"
        x: int
        y: int = 2
        tags: list[str] = describe(default_factory=list)
        exact: bool = describe(default=False, kw_only=True)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError(f"x is {self.x}")

        @cached_property
        def total(self) -> int:
            return self.x + self.y

    @decorate
    class Named(Point):
        name: str = "here"

    return Point, Named


RECORD = _classes(record, field)
STANDARD = _classes(dataclasses.dataclass(frozen=True), dataclasses.field)
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, 3), {}),
    ((1, 3, ["a"]), {}),
    ((), {"x": 1, "y": 4}),
    ((1,), {"exact": True, "tags": ["b"]}),
    ((), {}),
    ((1, 2, [], True), {}),  # a field without a place, or the wrong type of the class that has one
    ((1, 2, [], "there", True), {}),
    ((1,), {"x": 2}),
    ((1,), {"z": 2}),
    ((-1,), {}),
]


@record
class Pair:
    """A record of a module, as pickling wants it."""

    left: int
    right: tuple[int, ...] = ()


def outcome(cls: Any, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    args, kwargs = call
    try:
        return repr(cls(*args, **kwargs))
    except (TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("call", CALLS)
def test_it_is_made_and_shown_as_a_dataclass_is(which: int, call: Any) -> None:
    assert outcome(RECORD[which], call) == outcome(STANDARD[which], call)


def test_what_is_wrong_in_a_call_is_named() -> None:
    with pytest.raises(TypeError, match=r"Pair\(\) misses left"):
        Pair()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"got unknown middle: its fields are \['left', 'right'\]"):
        Pair(1, middle=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="got left twice"):
        Pair(1, left=2)  # type: ignore[misc]
    with pytest.raises(TypeError, match="takes 2 values by place, not 3"):
        Pair(1, (), 3)  # type: ignore[call-arg]


def test_a_field_without_default_may_not_follow_one_with_a_default() -> None:
    with pytest.raises(TypeError, match="b has no default, but follows a"):

        @record
        class Wrong:
            a: int = 1
            b: int  # type: ignore[misc]


def test_equality_and_hash_are_by_value_and_class() -> None:
    point, named = RECORD
    assert Pair(1, (2,)) == Pair(1, (2,)) != Pair(1, (3,))
    assert hash(Pair(1, (2,))) == hash(Pair(1, (2,)))
    assert len({Pair(1), Pair(1), Pair(2)}) == 2
    assert point(1) == point(1) != named(1)
    assert Pair(1) != (1, ())


def test_equality_by_identity_where_that_is_asked_for() -> None:
    @record(eq=False)
    class Held:
        values: list[int]

    one = Held([1])
    assert one != Held([1])
    assert {one: 2}[one] == 2


def test_one_field_and_none() -> None:
    @record
    class One:
        value: int

    @record
    class Empty:
        pass

    assert One(1) == One(1) != One(2)
    assert hash(One(1)) == hash(One(1))
    assert Empty() == Empty()
    assert repr(Empty()).endswith("Empty()")


def test_nothing_can_be_assigned_or_deleted() -> None:
    pair = Pair(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'left'"):
        pair.left = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'left'"):
        del pair.left
    assert pair == Pair(1)


def test_the_class_keeps_methods_of_its_own() -> None:
    @record
    class Loose:
        value: int

        def __repr__(self) -> str:
            return "loose"

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

    assert repr(Loose(1)) == "loose"
    assert Loose(1) == Loose(2)


def test_each_record_gets_a_list_of_its_own() -> None:
    point, _ = RECORD
    one, other = point(1), point(1)
    one.tags.append("a")
    assert other.tags == []


def test_replace_checks_anew_and_keeps_the_rest() -> None:
    point, named = RECORD
    changed = replace(named(1, 5, exact=True), x=2)
    assert changed == named(2, 5, exact=True)
    assert changed.total == 7
    with pytest.raises(ValueError, match="x is -1"):
        replace(point(1), x=-1)
    with pytest.raises(TypeError, match="got unknown z"):
        replace(point(1), z=1)


def test_fields_by_name() -> None:
    _, named = RECORD
    assert field_names(named) == ("x", "y", "tags", "exact", "name")
    assert as_dict(Pair(1, (2,))) == {"left": 1, "right": (2,)}


@pytest.mark.parametrize("which", [0, 1])
def test_the_standard_library_takes_it_for_a_dataclass(which: int) -> None:
    ours, theirs = RECORD[which], STANDARD[which]
    assert dataclasses.is_dataclass(ours)
    described = [
        [(f.name, f.type, f.default, f.kw_only) for f in dataclasses.fields(cls)]
        for cls in (ours, theirs)
    ]
    assert described[0] == described[1]
    assert dataclasses.replace(ours(1), y=3) == ours(1, 3)
    assert dataclasses.asdict(ours(1)) == dataclasses.asdict(theirs(1))
    assert ours.__match_args__ == theirs.__match_args__


def test_it_matches_by_place() -> None:
    match Pair(1, (2,)):
        case Pair(left, right):
            assert (left, right) == (1, (2,))


def test_copies_and_pickles_are_equal() -> None:
    pair = Pair(1, (2, 3))
    assert copy.copy(pair) == copy.deepcopy(pair) == pair
    assert pickle.loads(pickle.dumps(pair)) == pair


def test_a_start_does_without_dataclasses() -> None:
    """What records are for: the module, and what it imports, stay away until it is needed."""
    code = "import sys, lushan.cpu.executor, lushan.cpu.rules; print('dataclasses' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "False"
