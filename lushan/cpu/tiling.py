"""Every block size, with the register and cache arithmetic that chose it.

A tile of a convolution is MR output pixels × NV vectors of output channels. It holds MR·NV
accumulators, and for each step of the sum NV vectors of weights and one broadcast input number:
MR·NV + NV + 1 registers, of 32 on AVX-512 and NEON and 16 elsewhere. For each step it makes MR·NV
multiply-adds and NV + MR loads; a processor that starts as many loads as multiply-adds in a cycle
is kept busy by arithmetic when MR·NV ≥ MR + NV, comfortably from NV = 2 on. The multiply-adds of
one accumulator depend on each other, 4 cycles apart: fewer than 8 accumulators leave gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lushan.cpu.target import Target
from lushan.record import record

L2_BYTES = 512 * 2**10  # what one thread may count on: half of the smallest common L2

MEMORY_BYTES = 16 * 2**20  # weights of a layer that no cache holds until the next picture
L1_WAYS, L1_WAY_BYTES = 8, 4096  # 32 KiB; larger ones have more ways of the same size
LINE_BYTES = 64  # of a cache line
LINE = 16  # float32 of one
# The next panel of weights is fetched while the first so many tiles use the present one: at 7×7
# there are seven, and one prefetch for about seven multiply-adds of 512 bits costs nothing.
PREFETCHING_TILES = 4
PICTURE_AHEAD = 512  # float32, 2 KiB, that quantising fetches ahead: pictures come from memory


@record
class Tile:
    """MR output pixels of a row × NV vectors of output channels."""

    pixels: int
    vectors: int


# For each number of vectors, the pixels that fit the registers (MR·NV + NV + 1 of them): those that
# divide the rows of the family (56, 28, 14, 7 and 32, 16, 8 pixels), then what other rows need.
# One more than fits, 7 pixels × 4 vectors, reaches full speed where the stack happens to lie at a
# multiple of 64 bytes and three quarters of it elsewhere: the compiler keeps the rest in memory.
_PIXELS = {
    32: {1: (28, 16, 14, 8, 7, 4, 2, 1), 2: (14, 11, 8, 7, 4, 2, 1), 4: (6, 4, 2, 1)},
    16: {1: (14, 12, 8, 7, 4, 2, 1), 2: (6, 5, 4, 2, 1), 4: (2, 1)},
}


# On x86 a multiply-add takes its input number from memory; elsewhere numbers are loaded ahead, for
# as long as a load takes.
LOADED_AHEAD = 4


def fits(tile: Tile, target: Target, parts: int = 1) -> bool:
    """Return whether sums, weights and input numbers of ``tile`` fit the registers.

    ``parts`` is how many registers each vector of weights and each input number take: more than
    one where four bytes at a time are taken apart, for want of an instruction that takes them.
    """
    numbers = 1 if target.is_x86 else LOADED_AHEAD
    return tile.pixels * tile.vectors + parts * (tile.vectors + numbers) <= target.registers


def fits_twice(tile: Tile, target: Target) -> bool:
    """Return whether the sums of two tiles fit the registers, with what one of them works on."""
    sums = tile.pixels * tile.vectors
    return 2 * sums + tile.vectors + 1 <= target.registers


def rows_that_fit(
    table: Mapping[int, Mapping[int, Sequence[int]]],
    vectors: int,
    most: int,
    target: Target,
    parts: int = 1,
) -> list[int]:
    """Return the pixels (or rows) that ``table`` has for ``vectors``: at most so many.

    One is there whether it fits or not: 16 registers are too few for numbers in four parts.
    """
    known = table[target.registers][vectors]
    return [n for n in known if n <= most and fits(Tile(n, vectors), target, parts)] or [1]


def choose_vectors(output_channels: int, target: Target) -> int:
    """Return NV for a convolution: two vectors share a broadcast, unless one wastes much less.

    It depends on the channels alone, so that weights are packed once for every picture size.
    """

    def cost(vectors: int) -> float:
        used = -(-output_channels // (vectors * target.lanes)) * vectors
        return used * (1 + 0.1 / vectors)  # one vector a broadcast: some per cent slower

    return min((2, 1), key=cost)


LINEAR_VECTORS = 4  # a fully connected layer has few pixels, one per picture: four chains of sums


def choose_tile(
    width: int,
    vectors: int,
    pixel_bytes: int,
    target: Target,
    *,
    parts: int = 1,
    twice: bool = False,
) -> Tile:
    """Return the tile for rows of ``width`` pixels: a fixed rule, whatever the batch.

    It is the one with the least estimated cycles per row. A tile that does not divide the row is
    laid over its last pixels again. Pixels a multiple of 4 KiB apart (1024 channels) share one
    set of the L1 cache, whose eight ways must hold a line of each and one of the weights.
    ``parts`` is as in ``fits``. With ``twice`` a tile that fits twice is preferred, where it
    divides the row and has sums enough: 10, for products of bytes take 5 cycles in two units.
    """

    def cycles(pixels: int) -> int:
        # Multiply-adds, but at least the latency of a short chain and at least the loads; a
        # little more for the loop itself.
        return -(-width // pixels) * (max(pixels * vectors, 8, pixels + vectors) + 1)

    most = width if pixel_bytes % L1_WAY_BYTES else min(width, L1_WAYS - 1)
    rows = rows_that_fit(_PIXELS, vectors, most, target, parts)
    doubles = [n for n in rows if fits_twice(Tile(n, vectors), target) and n * vectors >= 10]
    if twice and (dividing := [n for n in doubles if width % n == 0]):
        return Tile(max(dividing), vectors)
    return Tile(min(rows, key=cycles), vectors)


EDGE_TILES = 4  # of a row, at most, where its ends have sums of their own

CHUNK_BYTES = 128 * 2**10  # input rows of a chunk: with the panel they meet, they stay in L2
SIDE_BYTES = 448 * 2**10  # rows of a chunk, and its panels: together they stay in an L2 of 1 MiB
FEWEST_CHUNKS, EVENLY = 8, 4  # so many, a multiple of that: two or four threads end together


@record
class Chunks:
    """How a convolution is cut: so many output rows × so many panels of weights each."""

    rows: int
    blocks: int


def choose_chunks(rows: int, row_bytes: int, blocks: int, panel_bytes: int) -> Chunks:
    """Return the chunks of a convolution with ``rows`` output rows in all and ``blocks`` panels.

    ``row_bytes`` is what one output row reads of the input. Where all weights fit in L2, a chunk
    takes a few rows through all of them. Else a chunk is a rectangle, rows by panels, each side
    as much as half of L2 holds: what it fetches, it uses as often as it can. Equal numbers of
    panels are preferred: with one left over, threads do not end together.
    """
    if blocks * panel_bytes <= L2_BYTES:
        row_parts = _parts(rows, CHUNK_BYTES // max(1, row_bytes))
        cuts = [Chunks(r, b) for b in _parts(blocks, blocks) for r in row_parts]
    else:
        # Panels first: threads that share a panel fetch it twice.
        block_parts = _parts(blocks, SIDE_BYTES // panel_bytes)
        cuts = [
            Chunks(r, b) for r in _parts(rows, SIDE_BYTES // max(1, row_bytes)) for b in block_parts
        ]
    equal = [cut for cut in cuts if blocks % cut.blocks == 0]
    for choice, evenly in ((equal, EVENLY), (cuts, EVENLY), (cuts, 1)):
        for cut in choice:
            count = -(-rows // cut.rows) * -(-blocks // cut.blocks)
            if count >= FEWEST_CHUNKS and count % evenly == 0:
                return cut
    return cuts[-1]


def _parts(count: int, most: int) -> list[int]:
    """Return how many of ``count`` can make a part, from ``most`` down, the parts about equal."""
    fewest = -(-count // max(1, most))
    return list(dict.fromkeys(-(-count // parts) for parts in range(fewest, count + 1)))


def unrolling(terms: int, tile: Tile, target: Target) -> int:
    """Return how many steps of the sum one turn of the inner loop makes.

    Enough to hide the loop's own instructions, few enough for the code to stay in the L1 cache.
    With several steps LLVM moves loads ahead. Of 16 registers, more than 8 sums leave too few for
    the weights of several steps at NV = 1, or for products where they are not fused with sums:
    sums would be kept in memory (AVX2, 14 pixels × 1 vector: 75 GFLOP/s instead of 89). One step
    is enough there: so many multiply-adds hide the loop's three instructions.
    """
    sums = tile.pixels * tile.vectors
    if target.registers < 32 and sums > 8 and (tile.vectors == 1 or not target.fma):
        return 1
    most = max(1, 128 // sums)
    return max(steps for steps in (1, 2, 3, 4, 7, 8) if steps <= most and terms % steps == 0)


# Turns of the inner loop during which the outputs of the tile before are made. Conversions and
# additions of a vector of bytes with a residual fill their two units for 3 to 4 cycles, a turn of 8
# steps has 4 for each vector: in one turn they would wait for each other.
MEANWHILE_TURNS = 2

CHUNKS = 16  # of a step: shared evenly enough by 2 to 8 threads, even when one is held up
LEAST_CHUNK_BYTES = 16 * 2**10  # some hundred nanoseconds of work: claiming a chunk costs far less


def rows_per_chunk(rows: int, row_bytes: int) -> int:
    """Return how many of ``rows`` make a chunk, when each moves ``row_bytes``.

    No result depends on it; it is fixed arithmetic all the same.
    """
    return max(1, min(rows, max(-(-rows // CHUNKS), -(-LEAST_CHUNK_BYTES // row_bytes))))


# Vectors of channels that go through an operator other than a convolution together: as many
# independent operations as one of them takes cycles (4), and at most 8 registers of 16 where each
# has a second vector beside it (the positions of maxima, the other half of a float64 sum).
CHANNEL_VECTORS = 4

# Transposed convolution, (MR, NV) by registers: MR·NV sums, NV weights and one number of the input
# are 29 of 32, 13 of 16.
TRANSPOSED_TILES = {32: Tile(6, 4), 16: Tile(5, 2)}

# The gradient of a weight: MR output channels × NV vectors of a run. MR·NV sums, NV vectors of x
# and one broadcast number, as in a convolution; x comes from the L1 cache once for MR channels.
_GRADIENT_ROWS: Mapping[int, Mapping[int, Sequence[int]]] = {
    32: {1: (28, 16, 14, 8, 4, 2, 1), 2: (14, 8, 4, 2, 1), 3: (9, 8, 4, 2, 1), 4: (6, 4, 2, 1)},
    16: {1: (14, 8, 4, 2, 1), 2: (6, 4, 2, 1), 3: (4, 2, 1)},
}


def choose_weight_gradient_tile(output_channels: int, run: int, target: Target) -> Tile:
    """Return MR output channels × NV vectors of a run: those with the fewest cycles a pixel."""
    vectors = -(-run // target.lanes)

    def cycles(tile: Tile) -> int:
        def turns(total: int, part: int) -> list[int]:
            return [part] * (total // part) + [total % part] * (total % part > 0)

        return sum(
            max(mr * nv, 8, mr + nv)
            for mr in turns(output_channels, tile.pixels)
            for nv in turns(vectors, tile.vectors)
        )

    tiles = [
        Tile(mr, nv)
        for nv in _GRADIENT_ROWS[target.registers]
        for mr in rows_that_fit(_GRADIENT_ROWS, nv, output_channels, target)
        if nv <= vectors
    ]
    return min(tiles, key=cycles)


@record
class WeightGradientCut:
    """How the sums of a weight's gradient are cut: slices of rows × parts of output channels."""

    slices: int
    rows_per_slice: int
    rows_per_block: int
    channel_parts: int
    channels_per_part: int


SLICE_BYTES = 4 * 2**20  # of all partial sums: they are written and read once more
BLOCK_BYTES = 96 * 2**10  # rows of a block, which every tile reads again: they stay in L2
BLOCK_PIXELS = (64, 1024)  # enough for one turn of a tile, few enough for a sum in float32


def choose_weight_gradient_cut(
    rows: int, width: int, row_bytes: int, weight_bytes: int, output_channels: int, tile: Tile
) -> WeightGradientCut:
    """Return the cut for so many rows of grad_y, ``row_bytes`` of it and x each: by shapes alone.

    Small weights have many slices; large ones few, and more parts of the output channels.
    """
    fewest, most = (max(1, pixels // width) for pixels in BLOCK_PIXELS)
    block = max(min(rows, fewest), min(rows, most, BLOCK_BYTES // max(1, row_bytes)))
    slices = max(1, min(CHUNKS, rows // block, SLICE_BYTES // max(1, weight_bytes)))
    rows_per_slice = -(-rows // slices)
    slices = -(-rows // rows_per_slice)
    tiles = -(-output_channels // tile.pixels)
    parts = min(tiles, -(-CHUNKS // slices))
    per_part = -(-tiles // parts) * tile.pixels
    return WeightGradientCut(
        slices, rows_per_slice, block, -(-output_channels // per_part), per_part
    )


# Sums over all pixels in float64: a vector of channels takes two registers for each of two sums,
# two while its numbers are widened. Slices are chunks: a fixed number, whatever the threads.
SUM_VECTORS = 2
SUM_SLICES = 32
