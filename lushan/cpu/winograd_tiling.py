"""Block sizes of Winograd's convolution and its gradients; ``tiling`` has what a tile is.

Which scheme a layer gets, and how its tiles are cut, with the arithmetic that chose it.
"""

from __future__ import annotations

from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT
from lushan.cpu.tiling import (
    CHUNKS,
    FEWEST_CHUNKS,
    L2_BYTES,
    MEMORY_BYTES,
    Tile,
    fits,
    rows_that_fit,
)
from lushan.record import record

WINOGRAD_SKEW = 16  # elements: squares a power of two apart would share sets of the L1 cache


def winograd_products(outputs: int) -> int:
    """Return the products that a tile of so many outputs squared takes for a pair of channels."""
    return (outputs + 2) ** 2


def winograd_tiles(height: int, width: int, outputs: int) -> int:
    """Return the tiles of a picture; the last of a row or column may overlap the one before."""
    return -(-height // outputs) * -(-width // outputs)


def choose_winograd_outputs(
    height: int, width: int, input_channels: int, output_channels: int
) -> int:
    """Return how many outputs in each direction a tile of Winograd's convolution makes, 0: none.

    Tiles of 4×4 save most, if there are enough of them. A vector of transformed weights (64 bytes
    on AVX-512) meets one number of every tile. Deep layers fetch it from memory, 8 bytes in a
    cycle at best, while a multiply-add takes half a cycle to one: from 9 tiles on (three by three:
    9 rows and columns) the arithmetic covers the fetching. Tiles of 2×2 fetch 16 numbers for each
    weight's 9, not 36, and there are more of them: 16 at 7 or 8 rows and columns. Below, the
    transformed weights must fit in L2 (64 by 64 channels: 576 KiB), and four tiles are needed to
    fill the registers.
    Tiles over the edge multiply in vain: their products must be at most half of the direct
    convolution's 9 a pixel, or the transforms eat what is left (a 5×5 picture: 144 of 225); 2×2
    tiles, whose transforms are some additions, at most two thirds.
    Where the weights of 4×4 tiles come from memory (512 by 512 channels: 36 MiB), 2×2 is as fast up
    to 12 rows and columns, and at 16 it costs a tenth of ResNet-18's time. They stay out for all
    sizes: a network that met 7×7 has the weights of 2×2 already, and a new picture size need not
    wait for a hundred megabytes more.
    """
    if min(height, width) < 4:
        return 0
    direct = 9 * height * width
    for outputs, enough, share in ((4, 9, 1 / 2), (2, 16, 2 / 3)):
        tiles, products = winograd_tiles(height, width, outputs), winograd_products(outputs)
        weights = FLOAT * products * input_channels * output_channels
        covered = tiles >= enough or (tiles >= 4 and weights <= 2 * L2_BYTES)
        streamed = outputs == 4 and weights > MEMORY_BYTES
        if covered and products * tiles <= share * direct and not streamed:
            return outputs
    return 0


TRANSFORM_PRODUCTS = 12  # what a number costs to transform, in multiply-adds: at 16 channels
# What a weight costs to transform, write and read, likewise: from a cache, or from memory.
WEIGHT_TILES = (24, 64)
LARGEST_SHARE = 0.85  # of the direct convolution's multiply-adds: below, Winograd's is faster


def choose_training_outputs(
    images: int, height: int, width: int, input_channels: int, output_channels: int
) -> int:
    """Return likewise the outputs of a tile in a training step, for so many images; 0: none.

    Weights are transformed in every step, and used for a whole batch: it is as if there were some
    tiles more. A product of a tile is used once for each channel on the other side, and what it
    costs to transform counts as much less as those are more: two layers of 16 channels gain a
    fifth, of 64 half. The same rule holds for both gradients, which take the same products.
    """
    direct = 9 * images * height * width
    transforms = TRANSFORM_PRODUCTS * (1 / input_channels + 1 / output_channels)

    def cost(outputs: int) -> float:
        tiles = images * winograd_tiles(height, width, outputs)
        products = winograd_products(outputs)
        streamed = FLOAT * products * input_channels * output_channels > MEMORY_BYTES
        return products * (tiles * (1 + transforms) + WEIGHT_TILES[streamed])

    fitting = [outputs for outputs in (2, 4) if outputs <= min(height, width)]
    best = min(fitting, key=cost, default=0)
    return best if best and cost(best) <= LARGEST_SHARE * direct else 0


@record
class WinogradStrips:
    """How a list of tiles is cut: strips of so many, through so many panels of weights a chunk.

    ``tile.pixels`` counts tiles: the rows of a small matrix product in registers. ``shared`` says
    that the input of all tiles is transformed first, for all chunks.
    """

    tile: Tile
    tiles: int
    blocks: int
    shared: bool


_WINOGRAD_ROWS = {
    32: {1: (28, 16, 14, 12, 10, 8, 6, 4, 2, 1), 2: (14, 12, 10, 8, 7, 6, 4, 2, 1)},
    16: {1: (12, 8, 7, 6, 4, 2, 1), 2: (6, 5, 4, 2, 1)},
}


def choose_winograd_vectors(output_channels: int, target: Target) -> int:
    """Return NV, which depends on the channels alone: two vectors, or one where two do not fit.

    Pictures have few tiles, hence few rows to a product, and weights are the larger stream: with
    two vectors 7 or 8 rows keep the arithmetic busy, and a panel of 36 products by 128 channels
    takes 576 KiB, of which the 16 KiB at hand stay in the L1 cache for the strip.
    """
    return 2 if output_channels % (2 * target.lanes) == 0 else 1


def choose_winograd_strips(
    tiles: int, outputs: int, input_channels: int, output_channels: int, target: Target
) -> WinogradStrips:
    """Return the strips for this many tiles of so many outputs, those of all pictures of a batch.

    The sums are the same whatever the strips, so they may depend on the batch, and parts of one
    batch have strips of their own. All chunks together read the transformed weights, P·OC·IC
    numbers for P products, once per strip: strips are as long as their transformed input (P·IC
    numbers a tile) and products (P·NR) stay in L2. Or the input of all tiles, P·IC·tiles numbers,
    is transformed once for all, and a chunk takes it through one panel: weights are read once, and
    the input once per panel. That is done where weights outweigh an input that fits in two L2
    caches, and where less is read that way.
    """
    products = winograd_products(outputs)
    vectors = choose_winograd_vectors(output_channels, target)
    panel = vectors * target.lanes
    panels = output_channels // panel
    transformed = FLOAT * products * input_channels * tiles
    weights = FLOAT * products * input_channels * output_channels

    def cost(rows: int) -> tuple[int, int]:  # cycles as in choose_tile, then rows done twice
        turns = -(-tiles // rows)
        return turns * (max(rows * vectors, 8, rows + vectors) + 1), turns * rows

    rows = min(rows_that_fit(_WINOGRAD_ROWS, vectors, tiles, target), key=cost)

    def strip(channels: int, most: int) -> int:  # tiles whose numbers stay in L2
        fitting = L2_BYTES // (FLOAT * products * channels * rows)
        return max(1, min(fitting, most)) * rows

    own = strip(panel + input_channels, tiles // (FEWEST_CHUNKS * rows))
    strips = -(-tiles // own)
    outweighed = output_channels > tiles and transformed <= 2 * L2_BYTES
    read_by_strips = strips * weights if weights > 2 * L2_BYTES else 0
    if outweighed or panels * transformed + weights < read_by_strips:
        most = -(-tiles // (-(-FEWEST_CHUNKS // panels) * rows))
        return WinogradStrips(Tile(rows, vectors), strip(panel, most), 1, shared=True)
    # Few strips go to more chunks by panels, each with the input transform for itself.
    groups = -(-FEWEST_CHUNKS // strips)
    return WinogradStrips(Tile(rows, vectors), own, -(-panels // groups), shared=False)


# Winograd's gradient by the weight. Sums of a point begin anew after so many tiles: two vectors of
# x, 32 KiB, meet one of grad_y after the other and stay in the L1 cache.
WINOGRAD_GRADIENT_BLOCK = 256
WINOGRAD_SUMS_BYTES = 640 * 2**10  # 36 products by 64 by 64 channels: they stay in L2
WINOGRAD_SEGMENT_BYTES = 16 * 2**20  # transformed planes on their way through an L3 cache
FEWEST_SUM_CHUNKS = 32


def choose_winograd_gradient_tile(
    output_channels: int, input_channels: int, target: Target
) -> Tile:
    """Return MR output channels × NV vectors of input channels: those with the fewest cycles.

    A transformed plane lies in blocks of one vector of channels, of which MR is a part.
    """
    tiles = [
        Tile(mr, nv)
        for nv in (1, 2, 3, 4)
        for mr in (1, 2, 4, 8, 16)
        if target.lanes % mr == 0
        and input_channels % (nv * target.lanes) == 0
        and fits(Tile(mr, nv), target)
    ]

    def cycles(tile: Tile) -> tuple[float, int]:
        sums = tile.pixels * tile.vectors
        return max(sums, 8, tile.pixels + tile.vectors) / sums, -sums

    return min(tiles, key=cycles)


@record
class WinogradGradientCut:
    """How the tiles of Winograd's gradient by the weight are cut.

    Not ``shared``: into slices, which go through scratch memory in strips of so many tiles.
    ``shared``: into segments of so many tiles.
    """

    tiles: int
    strip: int
    slices: int
    shared: bool

    @property
    def tiles_per_slice(self) -> int:
        """Return the tiles of a slice, but for the last."""
        return -(-self.tiles // self.slices)

    @property
    def segments(self) -> int:
        """Return how many segments there are."""
        return -(-self.tiles // self.strip)


def choose_winograd_gradient_cut(
    tiles: int, outputs: int, input_channels: int, output_channels: int
) -> WinogradGradientCut:
    """Return the cut for so many tiles, those of all pictures of a batch: by shapes alone.

    For each strip or segment all sums are read and written once. So strips are as long as their
    transformed numbers stay in L2, and segments at least half as large as the sums.
    """
    products = winograd_products(outputs)
    tile_bytes = FLOAT * products * (input_channels + output_channels)
    sums_bytes = FLOAT * products * input_channels * output_channels

    def evenly(count: int, most: int) -> int:
        return -(-count // -(-count // max(1, most)))

    if sums_bytes <= WINOGRAD_SUMS_BYTES:
        most = max(16, L2_BYTES // tile_bytes)
        slices = min(CHUNKS, -(-tiles // most))
        slices = -(-tiles // -(-tiles // slices))
        return WinogradGradientCut(tiles, evenly(-(-tiles // slices), most), slices, shared=False)
    most = max(WINOGRAD_SEGMENT_BYTES, sums_bytes // 2) // tile_bytes
    return WinogradGradientCut(tiles, evenly(tiles, most), 1, shared=True)
