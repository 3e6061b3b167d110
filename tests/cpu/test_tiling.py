"""The tables of tiles: they fit the registers, and the machine code agrees."""

from __future__ import annotations

import re

import pytest
from llvmlite import binding

from lushan.cpu import llvm, tiling, winograd_tiling
from lushan.cpu.byte_arithmetic import registers_of_a_step
from lushan.cpu.convolution import ConvolutionKernel
from lushan.cpu.target import AARCH64, Target
from lushan.cpu.tiling import Tile
from lushan.cpu.winograd_kernels import WinogradKernel
from support.native_tasks import targets

TABLES = {"convolution": tiling._PIXELS, "Winograd": winograd_tiling._WINOGRAD_ROWS}
TARGETS = {target.level: target for target in (*targets(), AARCH64)}
each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)

# Where the compiler keeps what does not fit: an instruction with a vector and the stack.
SPILL = re.compile(r"%[xyz]mm\d+.*\(%rsp|\(%rsp.*%[xyz]mm\d+|\b[qvds]\d+\b.*\[sp\b")
FUSED_OR_NOT = re.compile(r"\bv?(fn?m(add|sub)\d*|mul)ps|\bfmla\b")
JUMP = re.compile(r"\s+(?:j\w+|b\.\w+|b|cbn?z\s+\w+,)\s+(\.L\w+)")


def tiles(table: str, target: Target) -> list[Tile]:
    rows = TABLES[table][target.registers]
    known = [Tile(pixels, vectors) for vectors, all_ in rows.items() for pixels in all_]
    return [tile for tile in known if tiling.fits(tile, target)]


def innermost_loops(assembly: str) -> list[list[str]]:
    """Return the lines of every loop around nothing else that multiplies."""
    lines = assembly.splitlines()
    starts: dict[str, int] = {}
    loops = []
    for number, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            starts[label[1]] = number
        jump = JUMP.match(line)
        if jump and jump[1] in starts:
            body = lines[starts[jump[1]] + 1 : number]
            inside = any(re.match(r"\.L\w+:", other) for other in body)
            if not inside and any(FUSED_OR_NOT.search(other) for other in body):
                loops.append(body)
    return loops


@each_target
@pytest.mark.parametrize("table", TABLES)
def test_every_tile_fits_the_registers(target: Target, table: str) -> None:
    rows = TABLES[table][target.registers]
    every = [Tile(pixels, vectors) for vectors, all_ in rows.items() for pixels in all_]
    for tile in (*every, tiling.TRANSPOSED_TILES[target.registers]):
        assert tile.pixels * tile.vectors + tile.vectors + 1 <= target.registers, tile
    used = tiles(table, target)
    assert used == every or target.level == "neon"
    assert max(tile.pixels * tile.vectors for tile in used) >= 0.7 * target.registers
    assert tiling.fits(tiling.TRANSPOSED_TILES[target.registers], target)


@each_target
@pytest.mark.parametrize("table", TABLES)
def test_every_row_and_channel_count_has_a_tile(target: Target, table: str) -> None:
    for vectors in TABLES[table][target.registers]:
        assert Tile(1, vectors) in tiles(table, target)
    for width in range(1, 300):
        for vectors in tiling._PIXELS[target.registers]:
            assert tiling.choose_tile(width, vectors, 256, target).pixels <= width
            # Pixels that share a set of the L1 cache must leave a way for the weights.
            assert tiling.choose_tile(width, vectors, 8192, target).pixels <= min(width, 7)


@pytest.mark.parametrize("vectors", [1, 2])
def test_bytes_have_a_tile_on_any_processor(vectors: int) -> None:
    """Where four bytes are taken apart into four registers each, 16 registers hold no tile."""
    other = Target("generic", "riscv64-unknown-linux-gnu", "generic", "", 4, 16, False)
    parts = registers_of_a_step(other)
    assert tiling.choose_tile(7, vectors, 256, other, parts=parts) == Tile(1, vectors)


@pytest.mark.parametrize("rows", [1, 7, 14, 28, 56, 112, 448])
@pytest.mark.parametrize("blocks", [1, 2, 8, 16, 64])
@pytest.mark.parametrize("panel_bytes", [2**13, 2**16, 2**18])
def test_chunks_of_a_convolution_are_even(rows: int, blocks: int, panel_bytes: int) -> None:
    """Two or four threads end together, wherever there is enough to share out."""
    row_bytes = 2**14
    cut = tiling.choose_chunks(rows, row_bytes, blocks, panel_bytes)
    count = -(-rows // cut.rows) * -(-blocks // cut.blocks)
    assert cut.rows <= rows
    assert cut.blocks <= blocks
    if rows * blocks >= 16 * tiling.FEWEST_CHUNKS:
        assert count >= tiling.FEWEST_CHUNKS
        assert count % tiling.EVENLY == 0
        assert blocks % cut.blocks == 0
    if blocks * panel_bytes > tiling.L2_BYTES:
        assert max(cut.blocks * panel_bytes, cut.rows * row_bytes) <= tiling.SIDE_BYTES


@each_target
@pytest.mark.parametrize("prefetch", [False, True], ids=["cached", "prefetch"])
def test_the_direct_kernel_keeps_its_sums_in_registers(target: Target, prefetch: bool) -> None:
    if target.level == "generic" and binding.llvm_version_info[0] < 22:
        pytest.skip("LLVM 14 keeps a sum of the SSE2 kernel in memory: slower there, not wrong")
    terms = 64 if prefetch else 147  # of a layer inside; of the 7×7 stem, 7 steps at a time
    for tile in tiles("convolution", target):
        kernel = ConvolutionKernel((3, 1), terms, 64, 64, 128, 128, tile, True, prefetch, "relu")
        (loop,) = innermost_loops(llvm.assembly(kernel.emit("k", target), target))
        assert [line for line in loop if SPILL.search(line)] == [], tile


@each_target
@pytest.mark.parametrize("prefetch", [False, True], ids=["cached", "prefetch"])
def test_winograd_keeps_its_sums_in_registers(target: Target, prefetch: bool) -> None:
    for tile in tiles("Winograd", target):
        kernel = WinogradKernel(4, 64, 128, tile, True, False, prefetch)
        assembly = llvm.assembly(kernel.emit("k", target), target)
        products = tile.pixels * tile.vectors
        loops = [
            loop
            for loop in innermost_loops(assembly)
            if sum(bool(FUSED_OR_NOT.search(line)) for line in loop) == products
        ]
        assert loops, tile
        assert [line for loop in loops for line in loop if SPILL.search(line)] == [], tile
