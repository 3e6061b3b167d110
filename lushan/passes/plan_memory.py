"""Planning memory: where each value lies in one arena, so that values share what they can.

Before: values with a size and a life, from the step that makes them to the last that reads them;
one that is made again and again has several lives.
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
    """A value that needs ``size`` bytes in some spans of steps.

    A span is (first, last), both included; spans follow each other.
    """

    name: str
    size: int
    spans: tuple[tuple[int, int], ...]

    def meets(self, other: Life) -> bool:
        """Return whether both are needed in the same step."""
        mine, others = iter(self.spans), iter(other.spans)
        a, b = next(mine, None), next(others, None)
        while a and b:
            if a[0] <= b[1] and b[0] <= a[1]:
                return True
            if a[1] < b[1]:
                a = next(mine, None)
            else:
                b = next(others, None)
        return False


def plan_memory(lives: Sequence[Life]) -> tuple[dict[str, int], int]:
    """Return the offset of every value and the size of the arena, all multiples of 64 bytes."""
    placed: list[tuple[int, int, Life]] = []  # offset, end, value; in order of offset
    offsets: dict[str, int] = {}
    for life in sorted(lives, key=lambda life: (-life.size, life.spans, life.name)):
        size = -(-life.size // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, other in placed:
            if not life.meets(other):
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        offsets[life.name] = offset
        placed.append((offset, offset + size, life))
        placed.sort(key=lambda entry: entry[:2])
    return offsets, max((end for _, end, _ in placed), default=0)
