"""Planning memory: where each value lies in one arena, so that values share what they can.

Before: values with a size and a life, from the step that makes them to the last that reads them.
After: an offset for each, such that no two that live at the same time overlap. The largest are
placed first, each at the lowest place where it fits (greedy by size, as Pisarchyk and Lee 2020
describe): within a few per cent of the lower bound, which is the most that lives at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from lushan.record import record

ALIGNMENT = 64  # bytes: a cache line, and a vector of AVX-512


@record
class Life:
    """A value that needs ``size`` bytes in the steps ``first`` … ``last``, both included."""

    name: str
    size: int
    first: int
    last: int


def plan_memory(lives: Sequence[Life]) -> tuple[dict[str, int], int]:
    """Return the offset of every value and the size of the arena, all multiples of 64 bytes."""
    placed: list[tuple[int, int, Life]] = []  # offset, end, value; in order of offset
    offsets: dict[str, int] = {}
    for life in sorted(lives, key=lambda life: (-life.size, life.first, life.name)):
        size = -(-life.size // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, other in placed:
            if other.last < life.first or life.last < other.first:
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        offsets[life.name] = offset
        placed.append((offset, offset + size, life))
        placed.sort(key=lambda entry: entry[:2])
    return offsets, max((end for _, end, _ in placed), default=0)
