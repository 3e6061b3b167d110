"""The generated code of Winograd's convolution: its three stages, for a strip of tiles.

``winograd`` says what they are and how a picture is cut into strips and chunks. A product of stage
2 is the inner loop of ``convolution`` with tiles for pixels: MR tiles × NV vectors of channels in
registers, one long sum over the input channels each, whatever the tiling.
"""

from __future__ import annotations

from enum import IntEnum, auto

from lushan.cpu.activation import Activation, activate
from lushan.cpu.emit import KernelEmitter, Value
from lushan.cpu.target import Target
from lushan.cpu.tiling import LINE, Tile
from lushan.cpu.winograd_tiles import Corner, Spread, corner, transform_inputs, twice
from lushan.cpu.winograd_tiling import WINOGRAD_SKEW, winograd_products
from lushan.cpu.winograd_transform import points, transform_output
from lushan.record import record


class Argument(IntEnum):
    """The task's arguments, by place. Strides are in elements."""

    X = 0  # and X + 1: base and offset of the window of the first output pixel
    TRANSFORMED = 2  # [P, tiles, IC], of all tiles or, in scratch memory, of a strip
    TRANSFORMED_OFFSET = 3
    PRODUCTS = 4  # [P, tiles, NR], in scratch memory
    PRODUCTS_OFFSET = 5
    Y = 6  # and Y + 1
    RESIDUAL = 8  # and RESIDUAL + 1
    WEIGHTS = 10  # and WEIGHTS + 1, unless they are packed once: an address
    BIAS = 12
    X_ROW = auto()
    Y_ROW = auto()
    RESIDUAL_ROW = auto()
    X_IMAGE = auto()
    Y_IMAGE = auto()
    RESIDUAL_IMAGE = auto()
    LAST_ROW = auto()  # where the last tile starts: height − outputs
    LAST_COLUMN = auto()
    TILE_COLUMNS = auto()
    TILES_PER_IMAGE = auto()
    TILES = auto()  # of all pictures
    TILES_PER_STRIP = auto()
    STRIPS = auto()
    TRANSFORMED_POINT = auto()  # from one of the P numbers to the next
    PRODUCTS_POINT = auto()
    BLOCKS_PER_CHUNK = auto()
    BLOCKS = auto()  # panels of NR output channels


@record
class WinogradInputKernel:
    """Stage 1 as a task of its own."""

    outputs: int
    input_channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel: chunk → one strip."""
        e = KernelEmitter(name, target)
        _transform_strip(e, self.outputs, self.input_channels, _strip(e, e.chunk), 0)
        return e.text()


@record
class WinogradKernel:
    """What the generated code depends on: everything but height, width and batch.

    A tile makes ``outputs`` × ``outputs`` pixels. ``tile.pixels`` counts tiles here: rows of a
    small matrix product. ``shared`` says that stage 1 was done before, for all tiles.
    ``prefetch`` says whether the weights come from memory, so that those of the next product
    should be on their way while this one is computed. ``computed`` says that this run made them:
    they are a plane, and lie ``skew`` apart.
    """

    outputs: int
    input_channels: int
    output_channels: int
    tile: Tile
    shared: bool
    residual: bool
    prefetch: bool
    activation: Activation = "none"
    slope: float = 0.0
    computed: bool = False

    @property
    def skew(self) -> int:
        """Return the elements between the weights of one product and those of the next."""
        return WINOGRAD_SKEW if self.computed else 0

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        return _Emitter(self, name, target).emit()


def _strip(e: KernelEmitter, index: Value) -> tuple[Value, Value]:
    """Return the first tile of a strip and the one after its last."""
    start = e.mul(index, e.argument(Argument.TILES_PER_STRIP))
    stop = e.add(start, e.argument(Argument.TILES_PER_STRIP))
    return start, e.lesser(stop, e.argument(Argument.TILES))


def _transform_strip(
    e: KernelEmitter, outputs: int, channels: int, tiles: tuple[Value, Value], origin: Value
) -> None:
    """Stage 1 for the tiles from first to last; the memory for them starts with ``origin``."""
    spread = Spread(channels, e.target.lanes, e.argument(Argument.TRANSFORMED_POINT))
    transformed = e.pointer(Argument.TRANSFORMED)
    transform_inputs(e, Argument, outputs, channels, tiles, origin, transformed, spread)


class _Emitter:
    def __init__(self, kernel: WinogradKernel, name: str, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.e = e = KernelEmitter(name, target)
        self.nr = kernel.tile.vectors * target.lanes
        self.transformed = e.pointer(Argument.TRANSFORMED)
        self.products = e.pointer(Argument.PRODUCTS)
        self.weights = (e.pointer if kernel.computed else e.absolute)(Argument.WEIGHTS)
        self.point = kernel.input_channels * self.nr + kernel.skew  # from a product's weights on
        self.bias = e.absolute(Argument.BIAS)

    def emit(self) -> str:
        """Loop 1: the panels of this chunk, for the strip of this chunk."""
        e, kernel = self.e, self.kernel
        group, strip = e.divide(e.chunk, e.argument(Argument.STRIPS))
        start, stop = _strip(e, strip)
        # A short last strip multiplies some tiles of its neighbour again to fill the registers.
        first = e.lesser(start, e.sub(e.argument(Argument.TILES), kernel.tile.pixels))
        if kernel.shared:
            rows = e.offset(self.transformed, e.mul(first, kernel.input_channels))
        else:
            rows = self.transformed
            _transform_strip(e, kernel.outputs, kernel.input_channels, (first, stop), first)
        first_block = e.mul(group, e.argument(Argument.BLOCKS_PER_CHUNK))
        last_block = e.lesser(
            e.add(first_block, e.argument(Argument.BLOCKS_PER_CHUNK)), e.argument(Argument.BLOCKS)
        )
        later_group, _ = e.divide(e.add(e.chunk, 1), e.argument(Argument.STRIPS))
        later_block = e.mul(later_group, e.argument(Argument.BLOCKS_PER_CHUNK))
        panel = winograd_products(kernel.outputs) * self.point

        def block(block: Value) -> None:
            following = e.add(block, 1)
            is_inside = e.builder.icmp_signed("<", following, last_block)
            following = e.builder.select(is_inside, following, later_block)
            ahead = e.mul(e.sub(following, block), panel)
            self._multiply(block, rows, e.sub(stop, first), ahead)
            self._finish(block, (start, stop), first)

        e.loop(first_block, last_block, block)
        return e.text()

    def _multiply(self, block: Value, rows: Value, count: Value, ahead: Value) -> None:
        """Stage 2. Loop 2: the P products; loop 3: MR tiles at a time, the last ones overlap.

        ``ahead`` is from the panel to the one that is likely to be needed next.
        """
        e, kernel = self.e, self.kernel
        terms, least = kernel.input_channels, kernel.tile.pixels
        products = winograd_products(kernel.outputs)
        panel = e.offset(self.weights, e.mul(block, products * self.point))

        def product(point: Value) -> None:
            weights = e.offset(panel, e.mul(point, self.point))
            is_last = e.builder.icmp_signed("==", point, e.integer(products - 1))
            following = e.builder.select(
                is_last,
                e.offset(panel, ahead),
                e.offset(weights, self.point),
            )
            a = e.offset(rows, e.mul(point, e.argument(Argument.TRANSFORMED_POINT)))
            c = e.offset(self.products, e.mul(point, e.argument(Argument.PRODUCTS_POINT)))

            def tiles(start: Value) -> None:
                first = e.lesser(start, e.sub(count, least))
                ahead = self._ahead(following, start)
                sums = self._sum(e.offset(a, e.mul(first, terms)), weights, ahead)
                out = e.offset(c, e.mul(first, self.nr))
                for place, total in enumerate(sums):
                    e.store(total, out, place * self.target.lanes)

            e.loop(0, count, tiles, step=least)

        e.loop(0, products, product)

    def _ahead(self, following: Value, start: Value) -> list[Value]:
        """Return where to prefetch from, for the tiles from ``start``, and by how much to move.

        The first tiles of a product fetch the weights of the following one, each its share of the
        lines that a turn of the inner loop uses; later tiles stand still.
        """
        if not self.kernel.prefetch:
            return []
        e, lines = self.e, max(1, self.nr // LINE)
        share = self.kernel.input_channels * self.nr // lines
        turn, _ = e.divide(start, self.kernel.tile.pixels)
        active = e.builder.icmp_signed("<", turn, e.integer(lines))
        step = e.builder.select(active, e.integer(self.nr // lines), e.integer(0))
        return [e.offset(following, e.mul(e.lesser(turn, lines), share)), step]

    def _sum(self, a: Value, weights: Value, ahead: list[Value]) -> list[Value]:
        """Loop 4: input channels → MR·NV sums in registers.

        One step a turn: with several, LLVM moves loads ahead until sums leave the registers, and
        the loop's own three instructions hide behind the multiply-adds anyway.
        """
        e, terms, tile = self.e, self.kernel.input_channels, self.kernel.tile
        pointers = [weights, *ahead[:1]]
        moves = [e.integer(self.nr), *ahead[1:]]

        def turn(channel: Value, *carried: Value) -> list[Value]:
            here, new = carried[: len(moves)], list(carried[len(moves) :])
            if ahead:
                e.prefetch(here[1])
            self._step(e.offset(a, channel), here[0], new)
            return [*(e.offset(p, move) for p, move in zip(here, moves, strict=True)), *new]

        zeros = [e.splat(0.0)] * (tile.pixels * tile.vectors)
        return e.loop(0, terms, turn, carried=[*pointers, *zeros])[len(pointers) :]

    def _step(self, a: Value, weights: Value, sums: list[Value]) -> None:
        """One step of the sums: NV vectors of weights against MR transformed numbers."""
        e, vectors = self.e, self.kernel.tile.vectors
        loaded = [e.load(weights, v * self.target.lanes) for v in range(vectors)]
        for m in range(self.kernel.tile.pixels):
            number = e.broadcast(a, m * self.kernel.input_channels)
            for v in range(vectors):
                place = m * vectors + v
                sums[place] = e.fma(number, loaded[v], sums[place])

    def _finish(self, block: Value, tiles: tuple[Value, Value], origin: Value) -> None:
        """Stage 3 for the strip's own tiles and one panel's channels."""
        e = self.e
        first_channel = e.mul(block, self.nr)

        def tile(index: Value) -> None:
            corner_ = corner(e, Argument, self.kernel.outputs, index)
            y = self._pixels(corner_, Argument.Y, Argument.Y_IMAGE, Argument.Y_ROW)
            residual = self.kernel.residual and self._pixels(
                corner_, Argument.RESIDUAL, Argument.RESIDUAL_IMAGE, Argument.RESIDUAL_ROW
            )
            source = e.offset(self.products, e.mul(e.sub(index, origin), self.nr))

            def vector(channel: Value) -> None:
                place = e.add(first_channel, channel)
                outputs = self._outputs(e.offset(source, channel))
                offset = e.load(self.bias, place)
                for number, pixel in enumerate(outputs):
                    total = e.builder.fadd(pixel, offset)
                    if residual:
                        total = e.builder.fadd(total, e.load(residual[number], place))
                    result = activate(e, self.kernel.activation, total, self.kernel.slope)
                    e.store(result, y[number], place)

            e.loop(0, self.nr, vector, step=self.target.lanes)

        e.loop(*tiles, tile)

    def _pixels(self, corner: Corner, plane: int, image: int, row: int) -> list[Value]:
        """Return the addresses of a tile's outputs, row by row.

        What belongs to the tile before goes where the first pixel of this one's own follows: no
        branches, and nobody else's memory is touched.
        """
        e, channels = self.e, self.kernel.output_channels
        stride = e.argument(row)
        start = e.offset(e.pointer(plane), corner.offset(e, e.argument(image), stride, channels))
        side = range(self.kernel.outputs)
        columns = [e.mul(e.greater(corner.taken_columns, c), channels) for c in side]
        rows = [e.mul(e.greater(corner.taken_rows, r), stride) for r in side]
        return [e.offset(start, e.add(r, c)) for r in rows for c in columns]

    def _outputs(self, products: Value) -> list[Value]:
        """Return a tile's outputs, row by row, from its P products."""
        e, stride = self.e, self.e.argument(Argument.PRODUCTS_POINT)
        side = points(self.kernel.outputs)
        grid = [
            [e.load(products, e.mul(stride, row * side + column)) for column in range(side)]
            for row in range(side)
        ]
        return [number for line in twice(grid, e, transform_output) for number in line]
