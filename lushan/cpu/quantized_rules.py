"""How each operator on bytes becomes tasks: one rule for each. See ``rules``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from lushan.cpu.lowering_context import Context, Lowering
from lushan.cpu.packing import Allocate
from lushan.cpu.pooling import max_pooling_tasks
from lushan.cpu.quantization import dequantization_tasks, quantization_tasks
from lushan.cpu.quantized_convolution import (
    panel_constants,
    panels_shape,
    quantized_convolution_task,
    write_panels,
)
from lushan.cpu.quantized_global_average_pooling import quantized_global_average_pooling_tasks
from lushan.cpu.sliding import Geometry, choose_convolution_tile
from lushan.cpu.task import FLOAT, Plane, Task
from lushan.cpu.tiling import choose_vectors
from lushan.graph.ir import Node
from lushan.reference.quantization import QuantizationParameters, padding_bytes
from lushan.reference.quantized_pooling import average_requantization
from lushan.reference.requantization import requantization

# Of each group: weights int8 [OC/NR, KH, KW/run, steps, NR, 4], constants float32 [OC/NR, 3, NR].
Panels: TypeAlias = "list[tuple[NDArray[np.int8], NDArray[np.float32]]]"


def _convolution(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    geometry = Geometry(options["stride"], options["padding"], options["dilation"])
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    ends = node.inputs[5:]
    residual = context.planes[ends[0]] if len(ends) >= 3 else None
    panels = _panels(context, node, geometry)
    vectors = panels[0][0].shape[-2] // context.target.lanes
    tile = choose_convolution_tile(x, y, geometry, vectors, context.target)
    # Tiles that overlap would read what the one before has written.
    if residual and not y.shape[2] % tile.pixels:
        y = context.overwrite(node, ends[0])
    return _tasks(context, node, geometry, (x, y, residual), panels), []


def _tasks(
    context: Context,
    node: Node,
    geometry: Geometry,
    planes: tuple[Plane, Plane, Plane | None],
    panels: Panels,
) -> list[Task]:
    """Return one task for each group."""
    x, y, residual = planes
    _, kh, kw, _ = _weight_shape(context, node)
    relu = node.options.get("activation") == "relu"
    zero = padding_bytes(context.packer[node.inputs[1]])
    low = None
    if y.itemsize != FLOAT:
        low = round(float(context.packer[node.inputs[-1]])) if relu else 0
    return [
        quantized_convolution_task(
            x,
            y,
            geometry,
            weights,
            constants,
            (kh, kw),
            residual=residual,
            low=low,
            relu=relu,
            zero=zero,
            group=(group, len(panels)),
            target=context.target,
        )
        for group, (weights, constants) in enumerate(panels)
    ]


def _weight_shape(context: Context, node: Node) -> tuple[int, int, int, int]:
    """Return [OC, KH, KW, IC/groups]; a fully connected layer has a window of one pixel."""
    shape = context.packer.shape(node.inputs[2])
    oc, ic = shape[0], shape[-1]
    return (oc, *shape[1:3], ic) if len(shape) == 4 else (oc, 1, 1, ic)


def _panels(context: Context, node: Node, geometry: Geometry) -> Panels:
    """Return the packed weights and the constants of each group."""
    groups = cast("int", node.options.get("groups", 1))
    channels, *rest = _weight_shape(context, node)
    oc = channels // groups
    nr = choose_vectors(oc, context.target) * context.target.lanes
    shape = panels_shape((oc, *rest), geometry, groups, nr)

    def reserve(allocate: Allocate) -> Panels:
        size = int(np.prod(shape)) // FLOAT
        return [
            (allocate((size,)).view(np.int8).reshape(shape), allocate((shape[0], 3, nr)))
            for _ in range(groups)
        ]

    def write(panels: Panels) -> None:
        weight = context.packer.factors(node.inputs[2]).array.reshape(channels, *rest)
        finish = _requantization(context, node, weight, groups)
        for group, (packed, constants) in enumerate(panels):
            part = slice(group * oc, (group + 1) * oc)
            write_panels(weight[part], packed)
            constants[:] = panel_constants(finish, part, nr)

    key = (node.operator, groups, shape, *node.inputs[1:])
    return context.packer.once(key, reserve, write)


def _requantization(context: Context, node: Node, weight: NDArray[np.int8], groups: int) -> Any:
    """Return the constants of a layer, as the reference computes them."""
    zero_point, _, scale, bias = (context.packer[name] for name in node.inputs[1:5])
    ends = [context.packer[name] for name in node.inputs[5:] if name not in context.planes]
    return requantization(
        weight,
        scale,
        bias,
        zero_point,
        shortcut=QuantizationParameters(*ends[:2]) if len(node.inputs) >= 8 else None,
        output=QuantizationParameters(*ends[-2:]) if len(node.inputs) in (7, 10) else None,
        activation=cast("str", node.options.get("activation", "none")),
        groups=groups,
    )


def _linear(context: Context, node: Node) -> Lowering:
    """Lower a fully connected layer to a 1×1 convolution over one row of N pixels."""

    def row(name: str) -> Plane:
        plane = context.planes[name]
        shape = (1, 1, plane.shape[0], plane.shape[3])
        return Plane(plane.value, shape, itemsize=plane.itemsize)

    geometry = Geometry((1, 1), (0, 0, 0, 0), (1, 1))
    planes = (row(node.inputs[0]), row(node.name), None)
    return _tasks(context, node, geometry, planes, _panels(context, node, geometry)), []


def _max_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return max_pooling_tasks(x, y, None, target=context.target, **options), []


def _global_average_pooling(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    constants = average_requantization(*(context.packer[name] for name in node.inputs[1:]))
    return quantized_global_average_pooling_tasks(x, y, *constants, context.target), []


def _zero_padding_shortcut(context: Context, node: Node) -> Lowering:
    from lushan.cpu.residual import zero_padding_shortcut_tasks

    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    zero = int(padding_bytes(context.packer[node.inputs[1]]))
    stride = cast("int", node.options["stride"])
    return zero_padding_shortcut_tasks(x, y, context.target, stride=stride, zero=zero), []


def _number_by_number(tasks: Callable[..., list[Task]], context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return tasks(x, y, *(context.packer[name] for name in node.inputs[1:])), []


QUANTIZED_RULES: Mapping[str, Callable[[Context, Node], Lowering]] = {
    "quantize": partial(_number_by_number, quantization_tasks),
    "dequantize": partial(_number_by_number, dequantization_tasks),
    "quantized_convolution": _convolution,
    "quantized_linear": _linear,
    "quantized_max_pooling": _max_pooling,
    "quantized_global_average_pooling": _global_average_pooling,
    "quantized_zero_padding_shortcut": _zero_padding_shortcut,
}
