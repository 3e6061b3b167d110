"""The instructions of the pickle language, one small function each, and the loop that runs them.

Values and containers are built as CPython's unpickler builds them. Where that one would import
or call, this one looks into the vocabulary of the machine (``pickle_machine``) and refuses what
is not there. Protocols 0 to 5 are read, as far as torch and hand-written pickles use them.

Source: the instruction set as documented in CPython's ``pickletools``, whose names are used.
"""

from __future__ import annotations

from collections.abc import Callable

from lushan.errors import ModelError
from lushan.models.pickle_machine import Machine, Name


def run(machine: Machine) -> object:
    """Run one pickle to its end and return its value. Raises ``ModelError``."""
    while True:
        machine.spend(1)
        instruction = machine.take(1)
        if instruction == b".":
            break
        _step(machine, instruction)
    value = machine.pop()
    if machine.stack or machine.marks:
        raise machine.damaged()
    return value


def _step(machine: Machine, instruction: bytes) -> None:
    if instruction in _CONSTANTS:
        machine.stack.append(_CONSTANTS[instruction])
    elif instruction in _EMPTY:
        machine.stack.append(_EMPTY[instruction]())
    elif instruction in _NUMBERS:
        machine.stack.append(machine.number(_NUMBERS[instruction]))
    elif instruction in _COUNTED:
        layout, encoding = _COUNTED[instruction]
        machine.stack.append(machine.decode(machine.take(machine.count(layout)), encoding))
    elif instruction in _OPERATIONS:
        _OPERATIONS[instruction](machine)
    else:
        raise ModelError(
            "{source}: the pickle has an instruction that weights never need ({instruction}); "
            "nothing was executed",
            source=machine.source,
            instruction=repr(instruction)[1:],
        )


def _proto(machine: Machine) -> None:
    if machine.count("<B") > 5:
        raise machine.damaged()


def _long1(machine: Machine) -> None:
    machine.push_integer(machine.take(machine.count("<B")))


def _long4(machine: Machine) -> None:
    count = machine.count("<i")
    if count > 255:  # such integers are no weights, and slow to print
        raise machine.damaged()
    machine.push_integer(machine.take(count))


def _text_value(convert: Callable[[str], object]) -> Callable[[Machine], None]:
    """Values of protocol 0, written as a line of text; lines with escapes are refused."""

    def operation(machine: Machine) -> None:
        line = machine.line()
        try:
            if "\\" in line or len(line) > 255:
                raise machine.damaged()
            machine.stack.append(convert(line))
        except ValueError:
            raise machine.damaged() from None

    return operation


def _integer_or_truth(line: str) -> object:
    return {"00": False, "01": True}[line] if line in ("00", "01") else int(line)


def _mark(machine: Machine) -> None:
    machine.marks.append(len(machine.stack))


def _tuple(machine: Machine) -> None:
    machine.stack.append(tuple(machine.pop_to_mark()))


def _short_tuple(length: int) -> Callable[[Machine], None]:
    def operation(machine: Machine) -> None:
        items = [machine.pop() for _ in range(length)]
        machine.stack.append(tuple(reversed(items)))

    return operation


def _list(machine: Machine) -> None:
    machine.stack.append(machine.pop_to_mark())


def _dict(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.stack.append({})
    machine.set_items(machine.top(), items)


def _extend(machine: Machine, items: list[object]) -> None:
    target = machine.top()
    if not isinstance(target, list):
        raise machine.damaged()
    target.extend(items)


def _add_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    target = machine.top()
    if not isinstance(target, set):
        raise machine.damaged()
    target.update(machine.key(item) for item in items)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(), [key, value])


def _set_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.set_items(machine.top(), items)


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_name(module, name)


def _inst(machine: Machine) -> None:
    raise machine.refused(f"{machine.line()}.{machine.line()}")


def _object_of_class(machine: Machine) -> None:
    """OBJ, NEWOBJ, NEWOBJ_EX: the names in the table are functions and labels, never built so."""
    names = [item.text for item in machine.stack[-3:] if isinstance(item, Name)]
    raise machine.refused(names[-1] if names else "?")


def _reduce(machine: Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise machine.damaged()
    call = machine.vocabulary.calls.get(function.text)
    if call is None:
        raise machine.refused(function.text)
    try:
        machine.stack.append(call(machine, *arguments))
    except TypeError:  # the wrong number of arguments
        raise machine.damaged() from None


def _build(machine: Machine) -> None:
    """Set the state of the topmost object: attributes of a state dict are of no use, dropped."""
    state = machine.pop()
    target = machine.top()
    if isinstance(target, dict) and isinstance(state, dict):
        return
    if machine.vocabulary.build(target, state):
        return
    if isinstance(target, Name):
        raise machine.refused(target.text)
    raise machine.damaged()


def _persistent(machine: Machine) -> None:
    machine.stack.append(machine.vocabulary.persistent(machine, machine.pop()))


def _frame(machine: Machine) -> None:
    machine.take(8)  # the length of what follows: of no use to a reader that reads byte by byte


def _pop(machine: Machine) -> None:
    machine.pop()


def _pop_mark(machine: Machine) -> None:
    machine.pop_to_mark()


_CONSTANTS: dict[bytes, object] = {b"N": None, b"\x88": True, b"\x89": False}
_EMPTY: dict[bytes, Callable[[], object]] = {b"}": dict, b"]": list, b")": tuple, b"\x8f": set}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
# Length of the length, and encoding: text, Python 2's strings, bytes.
_COUNTED: dict[bytes, tuple[str, str | None]] = {
    b"\x8c": ("<B", "utf-8"),
    b"X": ("<I", "utf-8"),
    b"\x8d": ("<Q", "utf-8"),
    b"U": ("<B", "latin-1"),
    b"T": ("<i", "latin-1"),
    b"C": ("<B", None),
    b"B": ("<I", None),
    b"\x8e": ("<Q", None),
}
_OPERATIONS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": _proto,
    b"\x95": _frame,
    b"\x8a": _long1,
    b"\x8b": _long4,
    b"I": _text_value(_integer_or_truth),
    b"L": _text_value(lambda line: int(line.rstrip("L"))),
    b"F": _text_value(float),
    b"S": _text_value(lambda line: line.strip("'\"")),
    b"V": _text_value(str),
    b"p": lambda machine: machine.remember(machine.index()),
    b"g": lambda machine: machine.recall(machine.index()),
    b"q": lambda machine: machine.remember(machine.count("<B")),
    b"r": lambda machine: machine.remember(machine.count("<I")),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"h": lambda machine: machine.recall(machine.count("<B")),
    b"j": lambda machine: machine.recall(machine.count("<I")),
    b"(": _mark,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": lambda machine: machine.stack.append(machine.top()),
    b"t": _tuple,
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"l": _list,
    b"d": _dict,
    b"a": lambda machine: _extend(machine, [machine.pop()]),
    b"e": lambda machine: _extend(machine, machine.pop_to_mark()),
    b"s": _set_item,
    b"u": _set_items,
    b"\x90": _add_items,
    b"c": lambda machine: machine.push_name(machine.line(), machine.line()),
    b"\x93": _stack_global,
    b"i": _inst,
    b"o": _object_of_class,
    b"\x81": _object_of_class,
    b"\x92": _object_of_class,
    b"R": _reduce,
    b"b": _build,
    b"Q": _persistent,
}
