"""How a direct convolution slides over its input, whatever its numbers are: float32, or bytes.

Here are the arguments of its tasks, what its code depends on, and how the work is cut into chunks;
``convolution_loops`` has the code.
"""

from __future__ import annotations

import math
from enum import IntEnum, auto
from typing import Any

from numpy.typing import NDArray

from lushan.cpu.byte_arithmetic import registers_of_a_step
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane
from lushan.cpu.task import Argument as TaskArgument
from lushan.cpu.tiling import EDGE_TILES, Chunks, Tile, choose_chunks, choose_tile, unrolling
from lushan.record import field, record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    X = 0  # and X + 1: base and offset of the window of the first output pixel
    WEIGHTS = 2
    CONSTANTS = 3  # of each output channel: where its sums start, or what becomes of them
    Y = 4  # and Y + 1
    RESIDUAL = 6  # and RESIDUAL + 1
    X_ROW = 8  # from the window of one output row to that of the next
    Y_ROW = auto()
    RESIDUAL_ROW = auto()
    X_IMAGE = auto()
    Y_IMAGE = auto()
    RESIDUAL_IMAGE = auto()
    X_KERNEL_ROW = auto()  # from one row of the kernel to the next, in the input
    ROWS_PER_IMAGE = auto()
    ROWS = auto()  # of all pictures
    WIDTH = auto()  # pixels of an output row, at least the tile's
    ROWS_PER_CHUNK = auto()
    ROW_CHUNKS = auto()
    BLOCKS_PER_CHUNK = auto()
    BLOCKS = auto()  # panels of NR output channels
    TOP = auto()  # rows of padding above the input
    STRIDE = auto()  # rows from the window of one output row to that of the next
    HEIGHT = auto()  # rows of the input
    GATE = auto()  # a plane whose sign lets a gradient through
    GATE_OFFSET = auto()
    GATE_ROW = auto()
    GATE_IMAGE = auto()


@record
class SlidingKernel:
    """What the loops depend on: everything but height, width and batch.

    ``window`` is (KH, KW); ``terms`` the input channels of one position of it; ``tap`` the
    elements from one column of the window to the next, ``pixel`` from one output pixel's window
    to the next, ``output_pixel`` from one output pixel to the next in output and residual.
    ``prefetch`` says whether the weights come from memory, so that the next panel should be on
    its way while this one is used. ``skips`` says that rows of the window outside the input are
    left out: its padding adds nothing to a sum. ``edges`` are the steps that are left out for the
    same reason beside the input: at the start of a run of columns for the first pixel of a row, at
    its end for the last pixel.
    """

    window: tuple[int, int]
    terms: int
    tap: int
    pixel: int
    output_channels: int
    output_pixel: int
    tile: Tile
    residual: bool
    prefetch: bool
    skips: bool = field(default=False, kw_only=True)
    edges: tuple[int, int] = field(default=(0, 0), kw_only=True)

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of the planes that are read where an output is written."""
        return ("RESIDUAL",) if self.residual else ()

    @property
    def spreads(self) -> bool:
        """Whether those planes are fetched all along a sum: they come from memory."""
        return False

    @property
    def step(self) -> int:
        """The terms that one step of a sum takes."""
        return 1

    @property
    def steps(self) -> int:
        """The steps of one position of the window; the last may take more than there are."""
        return -(-self.terms // self.step)

    def panel(self, target: Target) -> int:
        """Return the elements of one packed panel of weights."""
        return math.prod(self.window) * self.steps * self.step * self.channels(target)

    def channels(self, target: Target) -> int:
        """Return NR, the output channels of a panel."""
        return self.tile.vectors * target.lanes

    def turn(self, target: Target) -> int:
        """Return the steps of the sum that one turn of the inner loop makes."""
        return unrolling(self.steps, self.tile, target)

    def blocks(self, target: Target) -> int:
        """Return the number of panels."""
        return -(-self.output_channels // self.channels(target))


@record
class Geometry:
    """How a convolution lies over its input: (height, width), padding on four sides."""

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]


def choose_convolution_tile(
    x: Plane, y: Plane, geometry: Geometry, vectors: int, target: Target
) -> Tile:
    """Return the tile of a convolution whose weights are packed for so many vectors."""
    pixel_bytes = x.itemsize * geometry.stride[1] * x.shape[3]
    parts = 1 if x.itemsize == FLOAT else registers_of_a_step(target)
    twice = parts == 1 and x.itemsize != FLOAT
    return choose_tile(y.shape[2], vectors, pixel_bytes, target, parts=parts, twice=twice)


def sliding(
    x: Plane,
    y: Plane,
    geometry: Geometry,
    window: tuple[int, int],
    groups: int,
    vectors: int,
    target: Target,
) -> dict[str, Any]:
    """Return the fields of a kernel that say how it slides, for weights [OC, KH, KW, IC/groups].

    ``window`` is (KH, KW). Columns of it that follow each other in memory are one run of terms.
    """
    kh, kw = window
    run = kw if groups == 1 and geometry.dilation[1] == 1 else 1
    return {
        "window": (kh, kw // run),
        "terms": x.shape[3] // groups * run,
        "tap": geometry.dilation[1] * x.shape[3],
        "pixel": geometry.stride[1] * x.shape[3],
        "output_channels": y.shape[3] // groups,
        "output_pixel": y.shape[3],
        "tile": choose_convolution_tile(x, y, geometry, vectors, target),
    }


def padded_edges(
    kernel: SlidingKernel, x: Plane, y: Plane, geometry: Geometry, columns: int, target: Target
) -> tuple[int, int]:
    """Return the ``edges`` of ``kernel``, whose runs are of so many columns of the window.

    There are some where one pixel meets padding in one column, as with 3×3 windows and padding of
    1, and the tiles at the ends are a fair part of the row: at 7 pixels a tenth of the products are
    saved, at 56 not as much as it costs to tell those tiles from others.
    """
    column, rest = divmod(kernel.terms, columns * kernel.step)
    if columns == 1 or rest or column % kernel.turn(target):
        return 0, 0
    if not 2 <= kernel.tile.pixels <= y.shape[2] <= EDGE_TILES * kernel.tile.pixels:
        return 0, 0
    before = geometry.padding[2]
    after = (y.shape[2] - 1) * geometry.stride[1] + columns - before - x.shape[2]
    return column * (before == 1), column * (after == 1)


def sliding_arguments(
    kernel: SlidingKernel,
    x: Plane,
    y: Plane,
    residual: Plane | None,
    geometry: Geometry,
    weights: NDArray[Any],
    constants: NDArray[Any],
    *,
    group: tuple[int, int],
    target: Target,
) -> tuple[dict[IntEnum, TaskArgument], int]:
    """Return the arguments of a task of ``kernel``, and its number of chunks.

    ``group`` is (which, of how many). The halo of ``x`` must be at least the padding.
    """
    index, groups = group
    n, h, w, c = y.shape
    ic, oc = x.shape[3] // groups, c // groups
    top, _, left, _ = geometry.padding
    blocks = kernel.blocks(target)
    row_bytes = x.itemsize * geometry.stride[0] * x.row
    cut: Chunks = choose_chunks(n * h, row_bytes, blocks, weights.nbytes // blocks)
    row_chunks = -(-n * h // cut.rows)
    shortcut = residual or y
    arguments: dict[IntEnum, TaskArgument] = {
        Argument.X: x.at(x.origin - top * x.row - left * x.shape[3] + index * ic),
        Argument.WEIGHTS: weights,
        Argument.CONSTANTS: constants,
        Argument.Y: y.at(y.origin + index * oc),
        Argument.RESIDUAL: shortcut.at(shortcut.origin + index * oc),
        Argument.X_ROW: geometry.stride[0] * x.row,
        Argument.Y_ROW: y.row,
        Argument.RESIDUAL_ROW: shortcut.row,
        Argument.X_IMAGE: x.image,
        Argument.Y_IMAGE: y.image,
        Argument.RESIDUAL_IMAGE: shortcut.image,
        Argument.X_KERNEL_ROW: geometry.dilation[0] * x.row,
        Argument.ROWS_PER_IMAGE: h,
        Argument.ROWS: n * h,
        Argument.WIDTH: w,
        Argument.ROWS_PER_CHUNK: cut.rows,
        Argument.ROW_CHUNKS: row_chunks,
        Argument.BLOCKS_PER_CHUNK: cut.blocks,
        Argument.BLOCKS: blocks,
        Argument.TOP: top,
        Argument.STRIDE: geometry.stride[0],
        Argument.HEIGHT: x.shape[1],
    }
    return arguments, row_chunks * -(-blocks // cut.blocks)
