"""Walking over planes: rows cut into chunks, lines cut into vectors, channels cut into groups.

Every kernel but the convolutions goes through its planes in one of these ways. The names of a
kernel's arguments follow one pattern, so that they are said once: a plane X has the slots
``X`` (base), the one after it (offset), ``X_ROW`` and ``X_IMAGE`` (strides in elements); what is
cut into chunks are the ``ROWS`` of all pictures, ``ROWS_PER_CHUNK`` each, ``ROWS_PER_IMAGE`` in a
picture. Nothing here decides what is computed, and no result depends on how rows are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeAlias

from llvmlite import ir

from lushan.cpu import task
from lushan.cpu.emit import F32, KernelEmitter, Value
from lushan.cpu.task import FLOAT, Plane
from lushan.cpu.tiling import rows_per_chunk

# Where a vector lies after the group's first channel, and how many of its numbers count.
Piece: TypeAlias = "tuple[int, int]"


def plane_arguments(arguments: type[IntEnum], **planes: Plane) -> dict[IntEnum, task.Argument]:
    """Return place and strides of each plane: ``plane_arguments(Argument, X=x, Y=y)``."""
    found: dict[IntEnum, task.Argument] = {}
    for name, plane in planes.items():
        found[arguments[name]] = plane.at()
        found[arguments[f"{name}_ROW"]] = plane.row
        found[arguments[f"{name}_IMAGE"]] = plane.image
    return found


def row_arguments(
    arguments: type[IntEnum], plane: Plane, elements: int
) -> tuple[dict[IntEnum, task.Argument], int]:
    """Return how the rows of ``plane`` are cut, and into how many chunks.

    ``elements`` is how many float32 the kernel moves for each row, reading and writing.
    """
    n, h, _, _ = plane.shape
    each = rows_per_chunk(n * h, FLOAT * elements)
    cut: dict[IntEnum, task.Argument] = {
        arguments["ROWS"]: n * h,
        arguments["ROWS_PER_IMAGE"]: h,
        arguments["ROWS_PER_CHUNK"]: each,
    }
    return cut, -(-n * h // each)


def each_row(
    e: KernelEmitter, arguments: type[IntEnum], body: Callable[[Value, Value], None]
) -> None:
    """Emit ``body(image, y)`` for each row of this chunk."""
    each = e.argument(arguments["ROWS_PER_CHUNK"])
    first = e.mul(e.chunk, each)
    last = e.lesser(e.add(first, each), e.argument(arguments["ROWS"]))
    rows_per_image = e.argument(arguments["ROWS_PER_IMAGE"])
    e.loop(first, last, lambda row: body(*e.divide(row, rows_per_image)))


def image_pointer(
    e: KernelEmitter, arguments: type[IntEnum], name: str, image: Value, element: ir.Type = F32
) -> Value:
    """Return the address of the first real pixel of a picture of the plane ``name``."""
    stride = e.argument(arguments[f"{name}_IMAGE"])
    return e.offset(e.pointer(arguments[name], element), e.mul(image, stride))


def row_pointer(
    e: KernelEmitter,
    arguments: type[IntEnum],
    name: str,
    image: Value,
    y: Value,
    element: ir.Type = F32,
) -> Value:
    """Return the address of the first real pixel of a row of the plane ``name``."""
    start = image_pointer(e, arguments, name, image, element)
    return e.offset(start, e.mul(y, e.argument(arguments[f"{name}_ROW"])))


def each_vector(
    e: KernelEmitter,
    length: Value,
    sources: Sequence[Value],
    destination: Value,
    function: Callable[..., Value],
    *,
    ahead: int = 0,
) -> None:
    """Emit ``destination[i] = function(sources[0][i], …)`` for all i < ``length``.

    The last vector ends with the line and lies over the one before it. It is loaded first, so
    that a source may be the destination. Lines shorter than a vector go number by number.
    ``ahead`` is how many numbers ahead the first source is fetched; 0 leaves that to the processor.
    """
    lanes = e.target.lanes

    def step(place: Value, used: int) -> None:
        loaded = [e.load(source, place, lanes=used) for source in sources]
        e.store(function(*loaded), destination, place, lanes=used)

    def vector(place: Value) -> None:
        if ahead:
            e.prefetch(sources[0], e.add(place, ahead), level=1)
        step(place, lanes)

    def long() -> None:
        final = e.sub(length, lanes)
        loaded = [e.load(source, final) for source in sources]
        e.loop(0, final, vector, step=lanes)
        e.store(function(*loaded), destination, final)

    def short() -> None:
        e.loop(0, length, lambda place: step(place, 1))

    e.choose(e.builder.icmp_signed(">=", length, e.integer(lanes)), long, short)


def each_group(
    e: KernelEmitter,
    channels: int,
    vectors: int,
    body: Callable[[Value, Sequence[Piece]], None],
) -> None:
    """Emit ``body(first_channel, pieces)`` for groups of about ``vectors`` vectors of channels.

    The last vector ends with the channels and lies over the one before it, always in the same
    group: a body that loads all its pieces before it stores any may work in place. Fewer channels
    than lanes are one piece of so many numbers.
    """
    lanes = e.target.lanes
    whole, rest = divmod(channels, lanes)
    if not whole:
        body(0, [(0, rest)])
        return
    groups = (whole - (rest > 0)) // vectors
    full = [(lanes * v, lanes) for v in range(vectors)]
    e.loop(0, groups * vectors * lanes, lambda first: body(first, full), step=vectors * lanes)
    start = groups * vectors * lanes
    pieces = [(place, lanes) for place in range(0, whole * lanes - start, lanes)]
    if rest:
        pieces.append((channels - start - lanes, lanes))
    if pieces:
        body(start, pieces)
