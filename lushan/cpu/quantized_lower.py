"""Lowering of the operators on bytes: rules for ``lower``, and the bytes of halos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.convolution import Geometry
from lushan.cpu.packing import Allocate
from lushan.cpu.quantization import (
    dequantize_tasks,
    fill_byte_halo_tasks,
    halo_bytes,
    quantize_tasks,
)
from lushan.cpu.quantized_convolution import Packed, quantized_convolution_task, run_of
from lushan.cpu.quantized_packing import reserve_bytes, reserve_packed, write_packed
from lushan.cpu.quantized_pooling import (
    quantized_global_average_pooling_tasks,
    quantized_max_pooling_tasks,
)
from lushan.cpu.quantized_residual import quantized_zero_padding_shortcut_tasks
from lushan.cpu.task import Plane, Task
from lushan.cpu.tiling import LINEAR_VECTORS, choose_byte_tile, choose_vectors
from lushan.graph.ir import Node
from lushan.reference.quantization import QuantizationParameters, padding_bytes, reciprocal
from lushan.reference.quantized_pooling import average_requantization
from lushan.reference.requantization import requantization

if TYPE_CHECKING:
    from lushan.cpu.lower import Context, Lowering


def halo_tasks(context: Context, plane: Plane, zero_point: str) -> list[Task]:
    """Fill the halo of a plane of bytes with those that stand for 0."""
    if plane.is_dense:
        return []
    packer, count = context.packer, halo_bytes(context.target)
    pattern = plane.shape[3] if packer.shape(zero_point) else 1

    def write(table: NDArray[np.uint8]) -> None:
        table.reshape(-1, pattern)[:] = padding_bytes(packer[zero_point])

    table = packer.once(
        ("halo", zero_point), lambda allocate: reserve_bytes(pattern * count, allocate), write
    )
    return fill_byte_halo_tasks(plane, table, context.target)


def _quantize(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return quantize_tasks(x, y, _tables(context, node, reciprocal), context.target), []


def _dequantize(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return dequantize_tasks(x, y, _tables(context, node, lambda scale: scale), context.target), []


def _tables(
    context: Context, node: Node, factor: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return factor and zero point as tables of P·L numbers."""
    packer, lanes = context.packer, context.target.lanes
    names = node.inputs[1:]
    channels = context.planes[node.name].shape[3]
    pattern = channels if any(packer.shape(name) for name in names) else 1

    def reserve(allocate: Allocate) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return allocate((pattern * lanes,)), allocate((pattern * lanes,))

    def write(tables: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        numbers = (factor(packer[names[0]]), packer[names[1]])
        for table, given in zip(tables, numbers, strict=True):
            table.reshape(-1, pattern)[:] = given

    return packer.once((node.operator, *names), reserve, write)


def _convolution(context: Context, node: Node) -> Lowering:
    """Lower a convolution of bytes to one task per group."""
    options: dict[str, Any] = node.options
    geometry = Geometry(options["stride"], options["padding"], options["dilation"])
    groups: int = options["groups"]
    channels, kh, kw, ic = context.packer.shape(node.inputs[2])
    oc = channels // groups
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    vectors = choose_vectors(oc, context.target)
    residual = context.planes[node.inputs[5]] if len(node.inputs) >= 8 else None
    tile = choose_byte_tile(y.shape[2], vectors, geometry.stride[1] * x.shape[3], context.target)
    # Tiles that overlap would read what the one before has written.
    if residual is not None and not y.shape[2] % tile.pixels:
        y = context.overwrite(node, node.inputs[5])
    run = run_of((kh, kw), geometry, groups)
    packed = _packed(context, node, (oc, kh, kw, ic), run, vectors)
    return [
        quantized_convolution_task(
            x,
            y,
            geometry,
            part,
            (kh, kw),
            residual=residual,
            relu=options["activation"] == "relu",
            group=(group, groups),
            vectors=vectors,
            target=context.target,
            threads=context.options.threads,
        )
        for group, part in enumerate(packed)
    ], []


def _linear(context: Context, node: Node) -> Lowering:
    """Lower a fully connected layer to a 1×1 convolution over one row of N pixels."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    oc, ic = context.packer.shape(node.inputs[2])

    def row(plane: Plane) -> Plane:
        shape = (1, 1, plane.shape[0], plane.shape[3])
        return Plane(plane.value, shape, element=plane.element)

    task = quantized_convolution_task(
        row(x),
        row(y),
        Geometry((1, 1), (0, 0, 0, 0), (1, 1)),
        _packed(context, node, (oc, 1, 1, ic), 1, LINEAR_VECTORS)[0],
        (1, 1),
        residual=None,
        relu=False,
        group=(0, 1),
        vectors=LINEAR_VECTORS,
        target=context.target,
        threads=context.options.threads,
    )
    return [task], []


def _packed(
    context: Context, node: Node, shape: tuple[int, int, int, int], run: int, vectors: int
) -> list[Packed]:
    """Return the packed weights of each group, [OC, KH, KW, IC] of them in ``shape``."""
    packer, options = context.packer, node.options
    groups: Any = options.get("groups", 1)
    _, x_zero_point, weight, weight_scale, bias, *ends = node.inputs
    has_shortcut, gives_bytes = len(ends) >= 3, len(ends) in (2, 5)

    def reserve(allocate: Allocate) -> list[Packed]:
        target = context.target
        return [reserve_packed(shape, run, vectors, target, allocate) for _ in range(groups)]

    def parameters(names: list[str]) -> QuantizationParameters:
        return QuantizationParameters(*(packer[name] for name in names))

    def write(packed: list[Packed]) -> None:
        array: NDArray[Any] = packer[weight]
        array = array[:, None, None] if array.ndim == 2 else array
        constants = requantization(
            array,
            packer[weight_scale],
            packer[bias],
            packer[x_zero_point],
            shortcut=parameters(ends[1:3]) if has_shortcut else None,
            output=parameters(ends[-2:]) if gives_bytes else None,
            activation=str(options.get("activation", "none")),
            groups=groups,
        )
        oc = shape[0]
        for group, part in enumerate(packed):
            which = slice(group * oc, (group + 1) * oc)
            write_packed(array[which], constants, which, part, run, context.target)

    return packer.once((node.operator, node.name, vectors), reserve, write)


def _max_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return quantized_max_pooling_tasks(x, y, **options), []


def _global_average_pooling(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    packer, names = context.packer, node.inputs[1:]

    def write(numbers: NDArray[np.float32]) -> None:
        numbers[:] = average_requantization(*(packer[name] for name in names))

    numbers = packer.once((node.operator, *names), lambda allocate: allocate((2,)), write)
    return quantized_global_average_pooling_tasks(x, y, numbers, context.target), []


def _zero_padding_shortcut(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    packer, name = context.packer, node.inputs[1]
    stride: Any = node.options["stride"]

    def write(zero: NDArray[np.uint8]) -> None:
        zero[:] = padding_bytes(packer[name])

    zero = packer.once((node.operator, name), lambda allocate: reserve_bytes(1, allocate), write)
    return quantized_zero_padding_shortcut_tasks(x, y, zero, stride=stride), []


RULES: Mapping[str, Callable[[Context, Node], Lowering]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "quantized_convolution": _convolution,
    "quantized_linear": _linear,
    "quantized_max_pooling": _max_pooling,
    "quantized_global_average_pooling": _global_average_pooling,
    "quantized_zero_padding_shortcut": _zero_padding_shortcut,
}
