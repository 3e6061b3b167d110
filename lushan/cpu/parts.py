"""Depth first: which nodes run for a whole batch at once, and which for a part after the other.

Early layers read and write much and have few weights, late layers the other way round. So early
ones run for a few pictures, and what they write is still in the cache when the next one reads it;
late ones run for many, and their weights come from memory once. A batch is halved, and halved
again, until the nodes from the first one on fit; those after them run for both halves together.
Halves end where little is left to hand on: after a block, not within it. No result depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lushan.record import record

# What a node reads and writes for a part: a quarter of an L3 cache of 32 MiB, through which weights
# and what other nodes left go, too. Half or twice as much: a batch takes 0.5 % longer.
PART_BYTES = 8 * 2**20


@record
class Part:
    """``nodes`` of a graph, for ``count`` pictures.

    ``starts[d]`` is the first picture of the part at depth d that it lies in; the last is its own.
    """

    nodes: range
    count: int
    starts: tuple[int, ...]

    @property
    def depth(self) -> int:
        """How many parts this one lies in."""
        return len(self.starts) - 1


@record
class Parts:
    """A batch, halved again and again.

    At depth d the nodes ``ends[d + 1]`` … ``ends[d]`` − 1 run, those before them deeper, for at
    most ``counts[d]`` pictures at once: ``counts[0]`` is the batch. The deepest parts begin at node
    0; a depth between may have no nodes of its own.
    """

    ends: tuple[int, ...]
    counts: tuple[int, ...]

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts in the order in which they run."""
        return self._of(self.counts[0], (0,))

    def _of(self, count: int, starts: tuple[int, ...]) -> Iterator[Part]:
        depth = len(starts) - 1
        inner = 0
        if depth + 1 < len(self.ends):
            inner = self.ends[depth + 1]
            half = -(-count // 2)
            yield from self._of(half, (*starts, starts[-1]))
            if half < count:
                yield from self._of(count - half, (*starts, starts[-1] + half))
        yield Part(range(inner, self.ends[depth]), count, starts)

    def depth(self, node: int) -> int:
        """Return the depth at which a node runs."""
        return sum(node < end for end in self.ends) - 1


def depth_first(moved: Sequence[int], left: Sequence[int], batch: int) -> Parts:
    """Return the parts of a batch.

    ``moved`` are the bytes that each node reads and writes for a picture, ``left`` those that later
    nodes need when it is done: a part ends where they are few.
    """
    ends, counts = [len(moved)], [batch]
    while counts[-1] > 1:
        most = PART_BYTES // counts[-1]
        end = max((node for node in range(ends[-1]) if moved[node] > most), default=-1) + 1
        if not end:
            break
        while end < ends[-1] and left[end] < left[end - 1]:
            end += 1
        ends.append(end)
        counts.append(-(-counts[-1] // 2))
    return Parts(tuple(ends), tuple(counts))
