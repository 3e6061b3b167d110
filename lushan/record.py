"""Frozen records: ``@dataclass(frozen=True)`` for what a fresh process meets before it answers.

``dataclasses`` writes the source of six methods for each class and compiles it whenever the class
is imported: 0.35 ms a class, 17 ms for the classes of a start, and 5 ms more to import the module
itself. Here the methods are closures over the names of the fields. What they do is the same:
fields in order, those of base classes first, given by place or by name; defaults and
``__post_init__``; equality, hash and repr by value; ``dataclasses.replace``, ``fields`` and
``asdict`` take records, too, and a type checker knows them as dataclasses.

Left out on purpose: records that change, order, slots. ``dataclass`` serves where nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Callable[[Any], Any]:
        """Do nothing: Python 3.10 has no such function, and a checker has its own."""
        return lambda decorated: decorated


Class = TypeVar("Class", bound=type)
Instance = TypeVar("Instance")
_MISSING: Any = object()
_FIELDS = "__record_fields__"


class Field:
    """How a field gets its value where the caller gives none; see ``field``."""

    def __init__(self, default: Any, factory: Callable[[], Any] | None, kw_only: bool) -> None:
        self.default = default
        self.factory = factory
        self.kw_only = kw_only
        self.annotation: Any = None

    @property
    def is_required(self) -> bool:
        """Whether the caller must give a value."""
        return self.default is _MISSING and self.factory is None

    def value(self) -> Any:
        """Return the value of a field that was not given."""
        return self.factory() if self.factory else self.default


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    kw_only: bool = False,
) -> Any:
    """Describe a field: a default, what makes one for each record, whether it has no place."""
    return Field(default, default_factory, kw_only)


@overload
def record(cls: Class, /) -> Class: ...
@overload
def record(*, eq: bool) -> Callable[[Class], Class]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: Any = None, /, *, eq: bool = True) -> Any:
    """Make a class a frozen record of its annotated fields.

    ``eq`` False leaves equality and hash to identity. Methods that the class has itself stay.
    Raises TypeError where a field without a default follows one with a default.
    """
    return (lambda later: _make(later, eq)) if cls is None else _make(cls, eq)


def replace(instance: Instance, /, **changes: Any) -> Instance:
    """Return a record with some fields changed; it is checked like any new one."""
    cls: Any = type(instance)
    values = instance.__dict__
    kept = {name: values[name] for name in getattr(cls, _FIELDS) if name not in changes}
    changed: Instance = cls(**kept, **changes)
    return changed


def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of a record's fields, in order."""
    return tuple(getattr(cls, _FIELDS))


def as_dict(instance: object) -> dict[str, Any]:
    """Return the fields of a record by name, in order; what they hold is not copied."""
    return {name: instance.__dict__[name] for name in getattr(type(instance), _FIELDS)}


def _make(cls: Any, eq: bool) -> Any:
    fields = _fields(cls)
    setattr(cls, _FIELDS, fields)
    cls.__dataclass_fields__ = _StandardFields()
    names = tuple(fields)
    places = tuple(name for name in names if not fields[name].kw_only)
    key: Callable[[Any], tuple[Any, ...]]
    if len(names) > 1:
        key = attrgetter(*names)
    else:

        def key(instance: Any) -> tuple[Any, ...]:
            return tuple(getattr(instance, name) for name in names)

    methods = {
        "__init__": _initializer(fields, places, hasattr(cls, "__post_init__")),
        "__repr__": _representation(names),
        "__match_args__": places,
        "__replace__": replace,  # for copy.replace
    }
    if eq:
        methods |= _comparison(key)
    for name, method in methods.items():
        if name not in cls.__dict__ or (name, cls.__dict__[name]) == ("__hash__", None):
            setattr(cls, name, method)
    cls.__setattr__, cls.__delattr__ = _refuse_assignment, _refuse_deletion
    return cls


def _fields(cls: Any) -> dict[str, Field]:
    """Return the fields of a class, after those of its bases."""
    fields: dict[str, Field] = {}
    for base in reversed(cls.__mro__[1:]):
        fields |= base.__dict__.get(_FIELDS, {})
    optional = next((n for n, f in fields.items() if not (f.is_required or f.kw_only)), None)
    for name, annotation in cls.__annotations__.items():
        if "ClassVar" in str(annotation).partition("[")[0]:
            continue
        default = cls.__dict__.get(name, _MISSING)
        fields[name] = default if isinstance(default, Field) else Field(default, None, False)
        if isinstance(default, Field):  # as in a dataclass: the class has plain defaults alone
            if default.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, default.default)
        fields[name].annotation = annotation
        if fields[name].kw_only:
            continue
        if not fields[name].is_required:
            optional = name
        elif optional is not None:
            raise TypeError(f"{cls.__name__}: {name} has no default, but follows {optional}")
    return fields


def _initializer(
    fields: dict[str, Field], places: tuple[str, ...], checks: bool
) -> Callable[..., None]:
    names, count = tuple(fields), len(fields)
    assign = object.__setattr__  # names shared by all records: a third of the memory

    def initialize(self: Any, /, *args: Any, **kwargs: Any) -> None:
        if len(args) == count == len(places) and not kwargs:  # most of them
            for name, value in zip(names, args, strict=True):
                assign(self, name, value)
        else:
            given = kwargs
            if args:
                if len(args) > len(places):
                    raise TypeError(
                        f"{type(self).__name__}() takes {len(places)} values by place, "
                        f"not {len(args)}"
                    )
                given = dict(zip(places, args, strict=False))
                if not given.keys().isdisjoint(kwargs):
                    twice = ", ".join(sorted(given.keys() & kwargs))
                    raise TypeError(f"{type(self).__name__}() got {twice} twice")
                given |= kwargs
            for name, value in _complete(type(self), fields, given).items():
                assign(self, name, value)
        if checks:
            self.__post_init__()

    return initialize


def _complete(cls: type, fields: dict[str, Field], given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all fields in order, given or made."""
    if not given.keys() <= fields.keys():
        unknown = ", ".join(sorted(given.keys() - fields.keys()))
        raise TypeError(f"{cls.__name__}() got unknown {unknown}: its fields are {list(fields)}")
    missing = [name for name, f in fields.items() if name not in given and f.is_required]
    if missing:
        raise TypeError(f"{cls.__name__}() misses {', '.join(missing)}")
    return {name: given[name] if name in given else f.value() for name, f in fields.items()}


def _representation(names: tuple[str, ...]) -> Callable[[Any], str]:
    def represent(self: Any) -> str:
        values = self.__dict__
        return f"{type(self).__qualname__}({', '.join([f'{n}={values[n]!r}' for n in names])})"

    return represent


def _comparison(key: Callable[[Any], tuple[Any, ...]]) -> dict[str, Any]:
    def equal(self: Any, other: object) -> Any:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    def hashed(self: Any) -> int:
        return hash(key(self))

    return {"__eq__": equal, "__hash__": hashed}


def _refuse_assignment(self: object, name: str, value: object) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: object, name: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


class _StandardFields:
    """A class's ``__dataclass_fields__``, made when something of ``dataclasses`` first asks."""

    def __get__(self, instance: object, owner: type) -> dict[str, Any]:
        import dataclasses

        described: list[tuple[str, Any, Any]] = []
        for name, f in getattr(owner, _FIELDS).items():
            options: dict[str, Any] = {"kw_only": f.kw_only}
            if f.factory:
                options["default_factory"] = f.factory
            elif not f.is_required:
                options["default"] = f.default
            described.append((name, f.annotation, dataclasses.field(**options)))
        twin: Any = dataclasses.make_dataclass(owner.__name__, described, eq=False)
        fields: dict[str, Any] = twin.__dataclass_fields__
        type.__setattr__(owner, "__dataclass_fields__", fields)
        return fields
