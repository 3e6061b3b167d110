"""Packed weights, kept between processes: a warm start maps them instead of packing them again.

To read a hundred megabytes, turn them round and write them takes 60 ms, most of it the system's,
which has to find that much memory. Mapping what an earlier start packed takes 6 ms, and processes
that serve the same model share it. What is kept belongs to one file of weights as the system
describes it (once changed, it is another), one graph, one instruction set, and one state of the
source code; so nothing is ever stale. All numbers are summed before the first is used. A file that
is cut short, foreign or damaged is ignored, and written again, bit for bit as it was.

It costs disk space, about one and a half times the weights. The files used least recently go when
all would take more than ``MOST_BYTES``, and a disk that is nearly full is left alone. Small weights
and those that come from no file are not kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import mmap
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.cache import PrivateFolder
from lushan.passes.plan_memory import ALIGNMENT

LEAST_BYTES = 8 * 2**20  # fewer are packed at once
MOST_BYTES = 2 * 2**30  # of all files together
SUFFIX = ".weights"
_START = b"lushan packed 1\n"
_HASH_BYTES, _LENGTH_BYTES = 32, 8
_MOST_DESCRIPTION_BYTES = 2**24

Array = NDArray[np.float32]


class WeightCache:
    """The packed weights of one program; every failure of the file system is a miss.

    ``key`` stands for everything that they depend on. A file starts with a line that says what it
    is, the hash of a description, its length and the description itself; from the next page on
    there are the arrays, each at a multiple of 64 bytes.
    """

    def __init__(self, folder: PrivateFolder, key: str) -> None:
        self._folder = folder
        self._name = key + SUFFIX

    def read(self) -> dict[str, list[Array]]:
        """Return lists of arrays by name, mapped and not writable; none if any is not sound."""
        file = self._folder.open(self._name)
        if file is None:
            return {}
        with file:
            try:
                described = _read_description(file)
                if described is None:
                    return {}
                place, end, entries = described
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                return {}
        if len(mapped) != end:
            return {}
        found: dict[str, list[Array]] = {}
        for name, shapes, sums in entries:
            arrays = []
            for shape, total in zip(shapes, sums, strict=True):
                array = np.ndarray(shape, np.float32, mapped, place)
                words = np.ndarray(_padded(array.nbytes) // 8, np.uint64, mapped, place)
                if _sum(words) != total:
                    return {}
                arrays.append(array)
                place += words.nbytes
            found[name] = arrays
        self._folder.touch(self._name)
        return found

    def write(self, arrays: Mapping[str, Sequence[Array]]) -> None:
        """Keep lists of arrays by name, if there is room for them."""
        words = {name: [_words(array) for array in group] for name, group in arrays.items()}
        total = sum(part.nbytes for group in words.values() for part in group)
        if total < LEAST_BYTES or not self._folder.make_room(total, MOST_BYTES, SUFFIX):
            return
        entries = [
            (name, [array.shape for array in group], [_sum(part) for part in words[name]])
            for name, group in arrays.items()
        ]
        description = json.dumps(entries).encode()
        head = b"".join(
            (
                _START,
                hashlib.sha256(description).digest(),
                len(description).to_bytes(_LENGTH_BYTES, "little"),
                description,
            )
        )
        head += bytes(_page_end(len(head)) - len(head))
        parts = (part.data for group in words.values() for part in group)
        self._folder.write(self._name, itertools.chain([head], parts))


Entry = tuple[str, Sequence[tuple[int, ...]], Sequence[int]]  # name; shapes and sums of its arrays


def _read_description(file: BinaryIO) -> tuple[int, int, list[Entry]] | None:
    """Return where the arrays start and end, and what they are; None for another kind of file."""
    if file.read(len(_START)) != _START:
        return None
    digest = file.read(_HASH_BYTES)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > _MOST_DESCRIPTION_BYTES:
        return None
    description = file.read(length)
    if hashlib.sha256(description).digest() != digest:
        return None
    entries: list[Entry] = json.loads(description)
    start = _page_end(file.tell())
    sizes = (_padded(4 * math.prod(shape)) for _, shapes, _ in entries for shape in shapes)
    return start, start + sum(sizes), entries


def _words(array: Array) -> NDArray[np.uint64]:
    """Return the numbers of an array as words of 8 bytes, filled up to a multiple of 64 bytes."""
    numbers = array.reshape(-1)
    if array.nbytes % ALIGNMENT:
        numbers = np.zeros(_padded(array.nbytes) // 4, np.float32)
        numbers[: array.size] = array.reshape(-1)
    return numbers.view(np.uint64)


def _sum(words: NDArray[np.uint64]) -> int:
    return int(np.add.reduce(words))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _page_end(size: int) -> int:
    return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
