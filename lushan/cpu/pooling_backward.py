"""Gradients of pooling and of the zero-padding shortcut: back to the pixels they came from.

The meaning is ``lushan.reference.pooling`` and ``residual``. Windows overlap, so a pixel may get
several gradients: a chunk has whole pictures, and adds them in the order of the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto

from lushan.cpu import task
from lushan.cpu.emit import F32, I64, KernelEmitter, Value
from lushan.cpu.pooling import PoolingKernel, averaged_pixels, real_pixels
from lushan.cpu.rows import (
    Piece,
    each_group,
    each_row,
    each_vector,
    image_pointer,
    plane_arguments,
    row_arguments,
    row_pointer,
)
from lushan.cpu.target import Target
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import CHANNEL_VECTORS, rows_per_chunk
from lushan.record import record


class Argument(IntEnum):
    """The arguments of these kernels, by place. Strides are in elements."""

    Y = 0  # and Y + 1: grad_x
    X = 2  # and X + 1: grad_y
    SWITCHES = 4  # and SWITCHES + 1
    Y_ROW = 6
    Y_IMAGE = auto()
    X_ROW = auto()
    X_IMAGE = auto()
    SWITCHES_ROW = auto()  # in float32, of which an int64 takes two
    SWITCHES_IMAGE = auto()
    HEIGHT = auto()  # of grad_x
    WIDTH = auto()
    GRADIENT_HEIGHT = auto()  # of grad_y
    GRADIENT_WIDTH = auto()
    ROWS = auto()  # of work: pictures, or rows of grad_x
    ROWS_PER_IMAGE = auto()
    ROWS_PER_CHUNK = auto()


@record
class MaxPoolingBackwardKernel:
    """Adds each gradient to the pixel that its switch names."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b, channels = e.builder, self.channels
        width, row = e.argument(Argument.WIDTH), e.argument(Argument.Y_ROW)

        def line(image: Value, y: Value) -> None:
            grad_x = image_pointer(e, Argument, "Y", image)
            grad_y = row_pointer(e, Argument, "X", image, y)
            switches = row_pointer(e, Argument, "SWITCHES", image, y)
            switches = b.bitcast(switches, I64.as_pointer())

            def pixel(place: Value) -> None:
                start = e.mul(place, channels)

                def channel(number: Value) -> None:
                    here = e.add(start, number)
                    h, w = e.divide(b.load(e.offset(switches, here), align=4), width)
                    to = e.offset(grad_x, e.add(e.mul(h, row), e.mul(w, channels), number))
                    more = b.load(e.offset(grad_y, here), align=4)
                    b.store(b.fadd(b.load(to, align=4), more), to, align=4)

                e.loop(0, channels, channel)

            e.loop(0, e.argument(Argument.GRADIENT_WIDTH), pixel)

        _each_picture(e, channels, line)
        return e.text()


@record
class AveragePoolingBackwardKernel:
    """Adds its share of each gradient to every pixel of the window of ``pooling``."""

    pooling: PoolingKernel

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        b, channels = e.builder, self.pooling.channels

        def line(image: Value, y: Value) -> None:
            grad_x = image_pointer(e, Argument, "Y", image)
            grad_y = row_pointer(e, Argument, "X", image, y)
            rows = real_pixels(e, self.pooling, y, 0, e.argument(Argument.HEIGHT))

            def pixel(place: Value) -> None:
                columns = real_pixels(e, self.pooling, place, 1, e.argument(Argument.WIDTH))
                count = averaged_pixels(e, self.pooling, rows, columns)

                def group(first: Value, pieces: Sequence[Piece]) -> None:
                    # The last pieces may lie over each other: everything is added, then stored.
                    place_y = e.add(e.mul(place, channels), first)
                    shares = [
                        b.fdiv(e.load(grad_y, e.add(place_y, at), lanes=used), count)
                        for at, used in pieces
                    ]

                    def row(h: Value) -> None:
                        start = e.add(e.mul(h, e.argument(Argument.Y_ROW)), first)

                        def column(w: Value) -> None:
                            here = e.offset(grad_x, e.add(start, e.mul(w, channels)))
                            sums = [
                                b.fadd(e.load(here, at, lanes=used), share)
                                for (at, used), share in zip(pieces, shares, strict=True)
                            ]
                            for (at, used), total in zip(pieces, sums, strict=True):
                                e.store(total, here, at, lanes=used)

                        e.loop(*columns, column)

                    e.loop(*rows, row)

                each_group(e, channels, CHANNEL_VECTORS, group)

            e.loop(0, e.argument(Argument.GRADIENT_WIDTH), pixel)

        _each_picture(e, channels, line)
        return e.text()


def _each_picture(e: KernelEmitter, channels: int, body: Callable[[Value, Value], None]) -> None:
    """Emit for each picture of a chunk: grad_x := 0, then ``body(image, y)`` for rows of grad_y."""
    length = e.mul(e.argument(Argument.WIDTH), channels)

    def picture(image: Value, _: Value) -> None:
        def clear(h: Value) -> None:
            row = row_pointer(e, Argument, "Y", image, h)
            each_vector(e, length, (), row, lambda: e.splat(0.0))

        e.loop(0, e.argument(Argument.HEIGHT), clear)
        e.loop(0, e.argument(Argument.GRADIENT_HEIGHT), lambda y: body(image, y))

    each_row(e, Argument, picture)


@record
class GlobalAveragePoolingBackwardKernel:
    """Spreads each gradient over its plane, in equal shares."""

    channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        width = e.argument(Argument.WIDTH)
        count = e.splat(e.builder.sitofp(e.mul(e.argument(Argument.HEIGHT), width), F32))

        def row(image: Value, y: Value) -> None:
            grad_y = image_pointer(e, Argument, "X", image)
            grad_x = row_pointer(e, Argument, "Y", image, y)

            def group(first: Value, pieces: Sequence[Piece]) -> None:
                shares = [
                    e.builder.fdiv(e.load(grad_y, e.add(first, at), lanes=used), count)
                    for at, used in pieces
                ]

                def pixel(place: Value) -> None:
                    start = e.add(e.mul(place, self.channels), first)
                    for (at, used), share in zip(pieces, shares, strict=True):
                        e.store(share, grad_x, e.add(start, at), lanes=used)

                e.loop(0, width, pixel)

            each_group(e, self.channels, CHANNEL_VECTORS, group)

        each_row(e, Argument, row)
        return e.text()


@record
class ShortcutBackwardKernel:
    """Gives every ``stride``-th pixel the gradients of its channels, and the others 0."""

    stride: int
    channels: int  # of x
    before: int
    gradient_channels: int

    def emit(self, name: str, target: Target) -> str:
        """Return the LLVM IR of the kernel."""
        e = KernelEmitter(name, target)
        width = e.argument(Argument.WIDTH)

        def row(image: Value, y: Value) -> None:
            grad_x = row_pointer(e, Argument, "Y", image, y)
            length = e.mul(width, self.channels)
            if self.stride > 1:
                each_vector(e, length, (), grad_x, lambda: e.splat(0.0))
            there, rest = e.divide(y, self.stride)

            def picked() -> None:
                grad_y = row_pointer(e, Argument, "X", image, there)

                def pixel(place: Value) -> None:
                    x = e.offset(grad_x, e.mul(place, self.stride * self.channels))
                    source = e.add(e.mul(place, self.gradient_channels), self.before)
                    g = e.offset(grad_y, source)

                    def group(first: Value, pieces: Sequence[Piece]) -> None:
                        for at, used in pieces:
                            here = e.add(first, at)
                            e.store(e.load(g, here, lanes=used), x, here, lanes=used)

                    each_group(e, self.channels, CHANNEL_VECTORS, group)

                e.loop(0, e.argument(Argument.GRADIENT_WIDTH), pixel)

            e.when(e.builder.icmp_unsigned("==", rest, e.integer(0)), picked)

        each_row(e, Argument, row)
        return e.text()


def _arguments(grad_y: Plane, grad_x: Plane) -> dict[IntEnum, task.Argument]:
    return {
        **plane_arguments(Argument, X=grad_y, Y=grad_x),
        Argument.HEIGHT: grad_x.shape[1],
        Argument.WIDTH: grad_x.shape[2],
        Argument.GRADIENT_HEIGHT: grad_y.shape[1],
        Argument.GRADIENT_WIDTH: grad_y.shape[2],
    }


def _by_pictures(grad_y: Plane, grad_x: Plane) -> tuple[dict[IntEnum, task.Argument], int]:
    """Return the arguments of a kernel whose chunks have whole pictures, and their number."""
    n, h, w, c = grad_x.shape
    each = rows_per_chunk(n, 2 * FLOAT * h * w * c)
    cut: dict[IntEnum, task.Argument] = {
        Argument.ROWS: n,
        Argument.ROWS_PER_IMAGE: 1,
        Argument.ROWS_PER_CHUNK: each,
    }
    return {**_arguments(grad_y, grad_x), **cut}, -(-n // each)


def max_pooling_backward_tasks(grad_y: Plane, switches: Plane, grad_x: Plane) -> list[Task]:
    """Write the gradient of max pooling to grad_x; switches are int64, counted in float32."""
    arguments, chunks = _by_pictures(grad_y, grad_x)
    arguments |= plane_arguments(Argument, SWITCHES=switches)
    return [Task(MaxPoolingBackwardKernel(grad_x.shape[3]), arguments, chunks)]


def average_pooling_backward_tasks(
    grad_y: Plane,
    grad_x: Plane,
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    count_include_pad: bool,
) -> list[Task]:
    """Write the gradient of average pooling to grad_x."""
    arguments, chunks = _by_pictures(grad_y, grad_x)
    edges = (padding[0], padding[2])
    pooling = PoolingKernel(
        "average", kernel, stride, edges, grad_x.shape[3], count_include_pad=count_include_pad
    )
    return [Task(AveragePoolingBackwardKernel(pooling), arguments, chunks)]


def global_average_pooling_backward_tasks(grad_y: Plane, grad_x: Plane) -> list[Task]:
    """Write grad_y [N, C] in equal shares to grad_x [N, H, W, C]."""
    cut, chunks = row_arguments(Argument, grad_x, grad_x.shape[2] * grad_x.shape[3])
    kernel = GlobalAveragePoolingBackwardKernel(grad_x.shape[3])
    return [Task(kernel, {**_arguments(grad_y, grad_x), **cut}, chunks)]


def zero_padding_shortcut_backward_tasks(
    grad_y: Plane, grad_x: Plane, *, stride: int
) -> list[Task]:
    """Write the gradient of the zero-padding shortcut to grad_x."""
    channels, widened = grad_x.shape[3], grad_y.shape[3]
    kernel = ShortcutBackwardKernel(stride, channels, (widened - channels) // 2, widened)
    cut, chunks = row_arguments(Argument, grad_x, 2 * grad_x.shape[2] * channels)
    return [Task(kernel, {**_arguments(grad_y, grad_x), **cut}, chunks)]
