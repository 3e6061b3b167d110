"""The three matrix products behind convolution and transposed convolution.

    gather      x, weight -> y        every output pixel is a weighted sum of its window
    spread      y, weight -> x        the transpose: every output pixel adds back to its window
    correlate   y, x      -> weight   how much each weight took part, over all output pixels

Copying every window side by side into the row of a matrix ("image to columns") turns them into
one matrix product each. All windows at once would take KH*KW times the memory of the picture, so
the work is cut into blocks of output rows whose columns fit a cache; a block is one copy and one
product. Without a window to speak of (1×1, stride 1) the picture is such a matrix already, and
nothing is copied.

Arrays: x [N, H, W, IC], y [N, HO, WO, OC], weight [OC, KH, KW, IC/G]. Nothing is checked here:
``lushan.reference.convolution`` is the entrance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lushan.record import record
from lushan.reference.arrays import FloatArray
from lushan.reference.geometry import Window

# Columns of one block: 1820 windows of 3×3×64 float32. Small enough to be still in the last-level
# cache when the product reads what the copy wrote; large enough that waking BLAS's threads and
# packing the kernels, once for each product, cost little beside it. Measured on 2 cores with 1 MiB
# of L2 each and 32 MiB of L3: with 1 MiB a ResNet layer takes 1.0 to 1.7 times as long, and
# without blocks a batch of 100 takes up to twice as long.
COLUMN_BYTES = 4 << 20


@record
class Block:
    """Output rows that are computed together: whole pictures, or some rows of one picture."""

    pictures: slice
    rows: range
    pixels: slice  # the same output pixels, counted through [N * HO * WO]


def gather(
    x: FloatArray, weight: FloatArray, bias: FloatArray | None, slide: Window, *, groups: int
) -> FloatArray:
    """Return y [N, HO, WO, OC]: each output pixel is its window times the weight."""
    N, H, W, _ = x.shape
    OC = weight.shape[0]
    HO, WO = slide.output_size(H, W)
    y = np.empty((N, HO, WO, OC), x.dtype)
    y_groups = _split(y, groups)  # [G, N*HO*WO, OC/G]
    kernels = weight.reshape(groups, OC // groups, -1).transpose(0, 2, 1)  # [G, KH*KW*IC/G, OC/G]
    for block, columns in _columns(x, (HO, WO), slide, groups):
        np.matmul(columns, kernels, out=y_groups[:, block.pixels])
        if bias is not None:
            y.reshape(-1, OC)[block.pixels] += bias
    return y


def spread(
    y: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    slide: Window,
    *,
    groups: int,
    size: tuple[int, int],
) -> FloatArray:
    """Return x [N, H, W, IC] of the given size (H, W): each pixel of y adds to its window."""
    N, HO, WO, OC = y.shape
    _, KH, KW, group_channels = weight.shape
    x = np.zeros((N, *size, groups * group_channels), y.dtype)
    y_groups = _split(y, groups)  # [G, N*HO*WO, OC/G]
    kernels = weight.reshape(groups, OC // groups, -1)  # [G, OC/G, KH*KW*IC/G]
    for block in _blocks(N, HO, WO, KH * KW * x.shape[3] * x.itemsize):
        columns = np.matmul(y_groups[:, block.pixels], kernels)  # [G, pixels, KH*KW*IC/G]
        windows = columns.reshape(groups, -1, len(block.rows), WO, KH, KW, group_channels)
        windows = windows.transpose(1, 2, 3, 4, 5, 0, 6)  # [n, rows, WO, KH, KW, G, IC/G]
        target = x[block.pictures].reshape(-1, *size, groups, group_channels)
        for tap in slide.taps(*size, block.rows, WO):
            target[tap.input] += windows[tap.output][:, :, :, tap.kh, tap.kw]
    if bias is not None:
        x += bias
    return x


def correlate(y: FloatArray, x: FloatArray, slide: Window, *, groups: int) -> FloatArray:
    """Return the weight-shaped sum over all output pixels of y times its window of x."""
    _, HO, WO, OC = y.shape
    KH, KW = slide.kernel
    y_groups = _split(y, groups).transpose(0, 2, 1)  # [G, OC/G, N*HO*WO]
    total: FloatArray = np.zeros((groups, OC // groups, KH * KW * x.shape[3] // groups), y.dtype)
    for block, columns in _columns(x, (HO, WO), slide, groups):
        total += np.matmul(y_groups[:, :, block.pixels], columns)
    return total.reshape(OC, KH, KW, -1)


def _split(array: FloatArray, groups: int) -> FloatArray:
    """View [N, H, W, C] as [G, N*H*W, C/G]."""
    split: FloatArray = array.reshape(-1, groups, array.shape[3] // groups).swapaxes(0, 1)
    return split


def _blocks(N: int, HO: int, WO: int, window_bytes: int) -> Iterator[Block]:
    """Cut N planes of HO×WO output pixels into blocks of at most about COLUMN_BYTES of columns."""
    rows_per_block = max(1, COLUMN_BYTES // (WO * window_bytes))
    pictures = max(1, rows_per_block // HO)
    rows_per_block = min(rows_per_block, HO)
    for n in range(0, N, pictures):
        stop = min(n + pictures, N)
        for row in range(0, HO, rows_per_block):
            rows = range(row, min(row + rows_per_block, HO))
            start = (n * HO + row) * WO
            yield Block(slice(n, stop), rows, slice(start, start + (stop - n) * len(rows) * WO))


def _columns(
    x: FloatArray, output_size: tuple[int, int], slide: Window, groups: int
) -> Iterator[tuple[Block, FloatArray]]:
    """Yield blocks with their windows as columns [G, pixels, KH*KW*IC/G], reusing one buffer."""
    (N, _, _, IC), (HO, WO) = x.shape, output_size
    if slide.is_pointwise:
        yield Block(slice(0, N), range(HO), slice(0, N * HO * WO)), _split(x, groups)
        return
    KH, KW = slide.kernel
    buffer = np.empty(0, x.dtype)
    for block in _blocks(N, HO, WO, KH * KW * IC * x.itemsize):
        windows = _windows(x[block.pictures], block.rows, slide)  # [n, rows, WO, IC, KH, KW]
        n, rows = windows.shape[:2]
        by_group = windows.reshape(n, rows, WO, groups, IC // groups, KH, KW)
        by_group = by_group.transpose(3, 0, 1, 2, 5, 6, 4)  # [G, n, rows, WO, KH, KW, IC/G]
        if buffer.size < by_group.size:
            buffer = np.empty(by_group.size, x.dtype)
        columns = buffer[: by_group.size].reshape(by_group.shape)
        columns[...] = by_group
        yield block, columns.reshape(groups, n * rows * WO, -1)


def _windows(x: FloatArray, rows: range, slide: Window) -> FloatArray:
    """View the windows of the given output rows as [n, rows, WO, IC, KH, KW]."""
    n, H, W, IC = x.shape
    top, _, left, right = slide.padding
    stride_h, stride_w = slide.stride
    first = rows.start * stride_h - top
    last = (rows.stop - 1) * stride_h - top + slide.effective_kernel[0]
    low = max(first, 0)
    high = max(low, min(last, H))
    seen = x[:, low:high]
    if left or right or last - first > high - low:
        padded = np.zeros((n, last - first, W + left + right, IC), x.dtype)
        padded[:, low - first : high - first, left : left + W] = seen
        seen = padded
    windows = sliding_window_view(seen, slide.effective_kernel, axis=(1, 2))
    return windows[:, ::stride_h, ::stride_w, :, :: slide.dilation[0], :: slide.dilation[1]]
