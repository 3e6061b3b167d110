"""A small machine for the programs that pickles are: its state, and what it may hold.

A pickle is a program. Python's own unpickler imports and calls whatever the program names, so a
weights file from a stranger can run any command. This machine knows the same instructions, but
the only things that can exist in it are plain values, plain containers and what a fixed
vocabulary of inert names yields; every other name is refused, by name, before anything is built
from it. Work and memory are bounded: a hostile or damaged pickle ends in a ``ModelError``.

The instructions are in ``pickle_instructions``. Left out on purpose: classes, their instances,
extension codes, buffers outside the pickle.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import BinaryIO

from lushan.errors import ModelError
from lushan.record import record
from lushan.text import printable

# A checkpoint of ResNet-152 with its optimiser takes about 150,000 instructions and 2 MB.
MAXIMUM_WORK = 1_000_000
MAXIMUM_BYTES = 64 * 2**20
MAXIMUM_LINE = 4096


@record
class Vocabulary:
    """Everything a pickle may name, and what that means here.

    ``calls``: name -> our function of (machine, *arguments) that returns inert data;
    ``labels``: names that are only mentioned; ``persistent``: what a persistent id stands for;
    ``build``: sets the state of an object other than a dictionary, or returns False.
    """

    calls: Mapping[str, Callable[..., object]]
    labels: Collection[str]
    persistent: Callable[[Machine, object], object]
    build: Callable[[object, object], bool]


@record
class Name:
    """A name of the vocabulary on the stack: a label, never the thing that it names."""

    text: str


class Machine:
    """A stack, marks on it, a memo, and how much has been spent; instructions work on these."""

    def __init__(self, file: BinaryIO, vocabulary: Vocabulary, source: str) -> None:
        self.file = file
        self.vocabulary = vocabulary
        self.source = source
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.work = 0
        self.bytes = 0
        start = file.tell()
        self.available = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def damaged(self) -> ModelError:
        """Return the error for a program that breaks the rules."""
        return ModelError(
            "{source}: the file is damaged: its pickle makes no sense near byte {position}",
            source=self.source,
            position=self.bytes,
        )

    def refused(self, name: str) -> ModelError:
        """Return the error for a name outside the vocabulary."""
        return ModelError(
            "{source}: the pickle asks for {name}, which is neither a tensor nor a plain "
            "container; nothing was executed. If you trust the file, save only its weights with "
            "torch: torch.save(model.state_dict(), ...)",
            source=self.source,
            name=printable(name),
        )

    def spend(self, work: int) -> None:
        """Charge instructions, and elements that one instruction copies (both cost memory)."""
        self.work += work
        if self.work > MAXIMUM_WORK:
            raise self.too_large()

    def too_large(self) -> ModelError:
        """Return the error for a program that costs too much."""
        return ModelError(
            "{source}: the pickle is far larger than weights need (over {work} steps or "
            "{megabytes} MB); save only the weights: torch.save(model.state_dict(), ...)",
            source=self.source,
            work=MAXIMUM_WORK,
            megabytes=MAXIMUM_BYTES // 2**20,
        )

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes of the file."""
        if self.bytes + count > self.available:
            raise ModelError(
                "{source}: the file ends in the middle of its pickle; get it again",
                source=self.source,
            )
        if self.bytes + count > MAXIMUM_BYTES:
            raise self.too_large()
        self.bytes += count
        return self.file.read(count)

    def line(self) -> str:
        """Return the next line of text, without its end."""
        data = self.file.readline(MAXIMUM_LINE)
        self.bytes += len(data)
        if not data.endswith(b"\n"):
            raise self.damaged()
        return str(self.decode(data[:-1], "utf-8"))

    def number(self, layout: str) -> int | float:
        """Return the next number, of a ``struct`` layout."""
        value: int | float = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def count(self, layout: str) -> int:
        """Return the next number, which counts something."""
        value = int(self.number(layout))
        if value < 0:
            raise self.damaged()
        return value

    def index(self) -> int:
        """Return the next line, which is a place in the memo."""
        line = self.line()
        if not line.isdecimal() or len(line) > 10:
            raise self.damaged()
        return int(line)

    def decode(self, data: bytes, encoding: str | None) -> str | bytes:
        """Return text, or the bytes themselves where there is no encoding."""
        try:
            return data if encoding is None else data.decode(encoding)
        except UnicodeDecodeError:
            raise self.damaged() from None

    def pop(self) -> object:
        """Take the topmost object; those below a mark are out of reach."""
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise self.damaged()
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        """Take everything above the last mark, and the mark."""
        if not self.marks:
            raise self.damaged()
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self) -> object:
        """Return the topmost object and leave it."""
        value = self.pop()
        self.stack.append(value)
        return value

    def remember(self, index: int) -> None:
        """Note the topmost object in the memo."""
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        """Push an object from the memo."""
        if index not in self.memo:
            raise self.damaged()
        self.stack.append(self.memo[index])

    def push_integer(self, data: bytes) -> None:
        """Push an integer of any length, little-endian and signed."""
        self.stack.append(int.from_bytes(data, "little", signed=True))

    def push_name(self, module: object, name: object) -> None:
        """Push a name that the table knows; refuse every other one at once."""
        text = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
        if text not in self.vocabulary.calls and text not in self.vocabulary.labels:
            raise self.refused(text)
        self.stack.append(Name(text))

    def key(self, value: object) -> Hashable:
        """Return a key that is cheap to hash: nested tuples are not, and torch writes none."""
        if value is None or isinstance(value, (str, int, float, bytes)):
            return value
        raise self.damaged()

    def set_items(self, target: object, items: list[object]) -> None:
        """Put keys and values, which alternate in ``items``, into a dictionary."""
        if not isinstance(target, dict) or len(items) % 2:
            raise self.damaged()
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value
