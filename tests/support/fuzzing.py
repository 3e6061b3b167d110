"""Random damage to files: flipped bytes, missing parts, parts in the wrong place."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

# Numbers that lengths and counts are when they lie.
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def corruptions(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` damaged versions of ``data``, always the same for one seed.

    Half of the damage falls into the first and last 8 KiB: headers and directories stand there.
    """
    rng = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            _damage(damaged, rng)
        yield bytes(damaged)


def _damage(data: bytearray, rng: random.Random) -> None:
    kind = rng.choice(("flip", "flip", "flip", "number", "truncate", "splice", "delete", "insert"))
    at = _position(len(data), rng)
    length = rng.choice((1, 4, 16, 256))
    if kind == "flip" and data:
        data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else 0xFF
    elif kind == "number":
        size, layout = rng.choice(((1, "<Q"), (2, "<Q"), (4, "<Q"), (4, ">Q"), (8, "<Q")))
        encoded = struct.pack(layout, rng.choice(EXTREMES))
        data[at : at + size] = encoded[:size] if layout[0] == "<" else encoded[-size:]
    elif kind == "truncate":
        del data[at:]
    elif kind == "splice":
        source = _position(len(data), rng)
        data[at : at + length] = data[source : source + length]
    elif kind == "delete":
        del data[at : at + length]
    elif kind == "insert":
        data[at:at] = rng.randbytes(length)


def _position(size: int, rng: random.Random) -> int:
    edge = min(8192, size)
    return rng.choice((rng.randint(0, size), rng.randint(0, edge), size - rng.randint(0, edge)))
