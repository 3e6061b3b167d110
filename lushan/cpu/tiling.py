"""Every block size, with the register and cache arithmetic that chose it.

A tile of a convolution is MR output pixels × NV vectors of output channels. It holds MR·NV
accumulators, and for each step of the sum NV vectors of weights and one broadcast input number:
MR·NV + NV + 1 registers, of 32 on AVX-512 and 16 elsewhere. For each step it makes MR·NV
multiply-adds and NV + MR loads; a processor that starts as many loads as multiply-adds in a cycle
is kept busy by arithmetic when MR·NV ≥ MR + NV, comfortably from NV = 2 on. The multiply-adds of
one accumulator depend on each other, 4 cycles apart: fewer than 8 accumulators leave gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

from lushan.cpu.target import Target

L2_BYTES = 512 * 2**10  # what one thread may count on: half of the smallest common L2


@dataclass(frozen=True)
class Tile:
    """MR output pixels of a row × NV vectors of output channels."""

    pixels: int
    vectors: int


# For each number of vectors, the pixels that fit the registers, fewest waste first for the rows
# of the family (56, 28, 14, 7 pixels and 32, 16, 8), then what other rows need.
_PIXELS = {
    32: {1: (28, 16, 14, 8, 7, 4, 2, 1), 2: (14, 11, 8, 7, 4, 2, 1), 4: (7, 6, 4, 2, 1)},
    16: {1: (14, 12, 8, 7, 4, 2, 1), 2: (6, 5, 4, 2, 1), 4: (3, 2, 1)},
}
_VECTORS = (4, 2, 1)


def choose_tile(width: int, output_channels: int, target: Target) -> Tile:
    """Return the tile for rows of ``width`` pixels: a fixed rule, whatever the batch.

    It is the one with the least estimated cycles per row. A tile that does not divide the row is
    laid over its last pixels again; vectors beyond the channels are wasted too.
    """
    best: tuple[float, Tile] | None = None
    for vectors in _VECTORS:
        blocks = -(-output_channels // (vectors * target.lanes))
        for pixels in _PIXELS[target.registers][vectors]:
            if pixels <= width:
                tiles = -(-width // pixels)
                # Cycles of a step: multiply-adds, but at least the latency of a short chain and
                # at least the loads; a little more for the loop itself.
                step = max(pixels * vectors, 8, pixels + vectors) + 1
                cost = tiles * blocks * step
                if best is None or cost < best[0]:
                    best = (cost, Tile(pixels, vectors))
    assert best is not None, "a row has at least one pixel"
    return best[1]


def unrolling(terms: int, tile: Tile) -> int:
    """Return how many steps of the sum one turn of the inner loop makes.

    Enough to hide the loop's own instructions, few enough for the code to stay in the L1 cache.
    """
    most = max(1, 128 // (tile.pixels * tile.vectors))
    return max(steps for steps in (1, 2, 3, 4, 7, 8) if steps <= most and terms % steps == 0)


CHUNKS = 16  # of a step: shared evenly enough by 2 to 8 threads, even when one is held up
CHUNK_BYTES = 16 * 2**10  # some hundred nanoseconds of work: claiming a chunk costs far less


def rows_per_chunk(rows: int, row_bytes: int) -> int:
    """Return how many of ``rows`` make a chunk, when each moves ``row_bytes``.

    No result depends on it; it is fixed arithmetic all the same.
    """
    return max(1, min(rows, max(-(-rows // CHUNKS), -(-CHUNK_BYTES // row_bytes))))


# Vectors of channels that go through an operator other than a convolution together: as many
# independent operations as one of them takes cycles (4), and at most 8 registers of 16 where each
# has a second vector beside it (the positions of maxima, the other half of a float64 sum).
CHANNEL_VECTORS = 4

# Transposed convolution, (MR, NV) by registers: MR·NV sums, NV weights and one number of the input
# are 29 of 32, 13 of 16.
TRANSPOSED_TILES = {32: Tile(6, 4), 16: Tile(5, 2)}
