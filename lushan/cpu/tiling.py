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

LINE = 16  # float32 of a cache line
# The next panel of weights is fetched while the first so many tiles use the present one: at 7×7
# there are seven, and one prefetch for about seven multiply-adds of 512 bits costs nothing.
PREFETCHING_TILES = 4


@dataclass(frozen=True)
class Tile:
    """MR output pixels of a row × NV vectors of output channels."""

    pixels: int
    vectors: int


# For each number of vectors, the pixels that fit the registers: those that divide the rows of the
# family (56, 28, 14, 7 and 32, 16, 8 pixels), then what other rows need.
_PIXELS = {
    32: {1: (28, 16, 14, 8, 7, 4, 2, 1), 2: (14, 11, 8, 7, 4, 2, 1), 4: (7, 6, 4, 2, 1)},
    16: {1: (14, 12, 8, 7, 4, 2, 1), 2: (6, 5, 4, 2, 1), 4: (3, 2, 1)},
}


def choose_vectors(output_channels: int, target: Target) -> int:
    """Return NV for a layer: it wastes few vectors, and shares a broadcast among many.

    It depends on the channels alone, so that weights are packed once for every picture size.
    """

    def cost(vectors: int) -> float:
        used = -(-output_channels // (vectors * target.lanes)) * vectors
        return used * (1 + 0.12 / vectors)  # one vector a broadcast: up to 12 % slower, measured

    return min((4, 2, 1), key=cost)


def choose_tile(width: int, vectors: int, target: Target) -> Tile:
    """Return the tile for rows of ``width`` pixels: a fixed rule, whatever the batch.

    It is the one with the least estimated cycles per row. A tile that does not divide the row is
    laid over its last pixels again.
    """

    def cycles(pixels: int) -> int:
        # Multiply-adds, but at least the latency of a short chain and at least the loads; a
        # little more for the loop itself.
        return -(-width // pixels) * (max(pixels * vectors, 8, pixels + vectors) + 1)

    fitting = [pixels for pixels in _PIXELS[target.registers][vectors] if pixels <= width]
    return Tile(min(fitting, key=cycles), vectors)


CHUNK_BYTES = 128 * 2**10  # input rows of a chunk: with the panel they meet, they stay in L2
FEWEST_CHUNKS = 8  # so that two to four threads end together


@dataclass(frozen=True)
class Chunks:
    """How a convolution is cut: so many output rows × so many panels of weights each."""

    rows: int
    blocks: int


def choose_chunks(
    rows: int, row_bytes: int, blocks: int, panel_bytes: int, *, pixels: int
) -> Chunks:
    """Return the chunks of a convolution with ``rows`` output rows in all and ``blocks`` panels.

    ``row_bytes`` is what one output row reads of the input, ``pixels`` its width. Where all
    weights fit in L2, a chunk takes a few rows through all of them; else panels are taken one by
    one, each through as many rows as are worth fetching it for.
    """
    all_fit = blocks * panel_bytes <= L2_BYTES
    blocks_each = blocks if all_fit else 1
    rows_each = max(1, min(rows, CHUNK_BYTES // max(1, row_bytes)))
    if not all_fit:
        # A panel is fetched from memory for every chunk: at least 64 pixels should use it.
        rows_each = min(rows, max(rows_each, -(-64 // pixels)))
    while -(-rows // rows_each) * -(-blocks // blocks_each) < FEWEST_CHUNKS and (
        blocks_each > 1 or rows_each > 1
    ):
        # Smaller panels groups first where weights are the larger part, else fewer rows.
        if rows_each > 1 and (all_fit or blocks_each == 1):
            rows_each = -(-rows_each // 2)
        else:
            blocks_each = -(-blocks_each // 2)
    return Chunks(rows_each, blocks_each)


def unrolling(terms: int, tile: Tile) -> int:
    """Return how many steps of the sum one turn of the inner loop makes.

    Enough to hide the loop's own instructions, few enough for the code to stay in the L1 cache.
    """
    most = max(1, 128 // (tile.pixels * tile.vectors))
    return max(steps for steps in (1, 2, 3, 4, 7, 8) if steps <= most and terms % steps == 0)
