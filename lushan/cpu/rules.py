"""How each operator on float32 becomes tasks: one rule for each.

Which algorithm a node gets depends on the node, its height and width and the instruction set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lushan.cpu.activation import activation_tasks, prelu_tasks
from lushan.cpu.batch_norm import batch_norm_tasks
from lushan.cpu.batch_norm_training import batch_norm_given_tasks
from lushan.cpu.convolution import Epilogue, convolution_task
from lushan.cpu.global_average_pooling import global_average_pooling_tasks
from lushan.cpu.lowering_context import Context, Lowering
from lushan.cpu.packing import Allocate, Panels
from lushan.cpu.pooling import average_pooling_tasks, max_pooling_tasks
from lushan.cpu.residual import add_tasks, zero_padding_shortcut_tasks
from lushan.cpu.sliding import Geometry, choose_convolution_tile
from lushan.cpu.softmax import softmax_tasks
from lushan.cpu.task import Plane, Task
from lushan.cpu.transposed_convolution import (
    pack_weights,
    transposed_convolution_kernel,
    transposed_convolution_tasks,
)
from lushan.cpu.winograd import is_plain, suitable_outputs, winograd_tasks
from lushan.cpu.winograd_packing import winograd_shape, write_winograd_weights
from lushan.cpu.winograd_parameter_packing import pack_winograd_weights
from lushan.graph.ir import Node


def _convolution(context: Context, node: Node) -> Lowering:
    """Lower a convolution, fused or not: Winograd's where it pays, else direct."""
    options: dict[str, Any] = node.options
    geometry = Geometry(options["stride"], options["padding"], options["dilation"])
    y = context.planes[node.name]
    epilogue = Epilogue(
        context.planes[node.inputs[3]] if len(node.inputs) > 3 else None,
        options.get("activation", "none"),
        options.get("slope", 0.0),
    )
    shape = context.packer.shape(node.inputs[1])  # [OC, KH, KW, IC/groups]
    if context.packer.changes(*node.inputs[1:3]):  # then it is packed in every run
        outputs = context.training_outputs(y, shape, options)
        if outputs:
            return _winograd_training(context, node, outputs, epilogue)
    elif context.options.winograd and is_plain(shape, options):
        outputs = suitable_outputs(shape[3], shape[0], y.shape[1], y.shape[2], context.target)
        if outputs:
            return _winograd(context, node, outputs, epilogue)
    return _direct(context, node, geometry, epilogue), []


def _winograd(context: Context, node: Node, outputs: int, epilogue: Epilogue) -> Lowering:
    """Lower a 3×3 convolution to Winograd's with tiles of so many outputs."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    packer, channels = context.packer, y.shape[3]

    def reserve(allocate: Allocate) -> Panels:
        shape = winograd_shape(packer.shape(node.inputs[1]), outputs, context.target)
        return allocate(shape), allocate((channels,))

    def write(packed: Panels) -> None:
        write_winograd_weights(packer.factors(node.inputs[1]), outputs, packed[0], packer.writer)
        packed[1][:] = context.bias(node, channels)

    weights, biases = packer.once(("winograd", outputs, *node.inputs[1:3]), reserve, write)
    return winograd_tasks(
        x,
        y,
        epilogue.residual,
        weights,
        biases,
        outputs,
        context.target,
        activation=epilogue.activation,
        slope=epilogue.slope,
    )


def _winograd_training(context: Context, node: Node, outputs: int, epilogue: Epilogue) -> Lowering:
    """Lower a 3×3 convolution likewise whose weight changes from run to run."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    weight = context.packer.array(node.inputs[1])
    biases = [context.packer.array(name) for name in node.inputs[2:3]]
    packing, weights = pack_winograd_weights(
        weight, outputs, context.target, name=f"{node.name} weights"
    )
    tasks, temporaries = winograd_tasks(
        x,
        y,
        epilogue.residual,
        weights,
        biases[0] if biases else np.zeros(len(weight), np.float32),
        outputs,
        context.target,
        activation=epilogue.activation,
        slope=epilogue.slope,
    )
    return [packing, *tasks], [weights, *temporaries]


def _direct(context: Context, node: Node, geometry: Geometry, epilogue: Epilogue) -> list[Task]:
    """Lower a convolution to one task per group."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    groups: Any = node.options["groups"]
    channels, kh, kw, ic = context.packer.shape(node.inputs[1])
    panels = context.panels(node, (channels // groups, kh, kw, ic), groups)
    vectors = panels[0][0].shape[-1] // context.target.lanes
    tile = choose_convolution_tile(x, y, geometry, vectors, context.target)
    # Tiles that overlap would read what the one before has written.
    if epilogue.residual and not y.shape[2] % tile.pixels:
        y = context.overwrite(node, node.inputs[3])
    return [
        convolution_task(
            x,
            y,
            geometry,
            packed,
            (kh, kw),
            epilogue=epilogue,
            group=(group, groups),
            target=context.target,
        )
        for group, packed in enumerate(panels)
    ]


def _transposed_convolution(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    del options["output_padding"]  # the size of y says it
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    packer, target = context.packer, context.target
    kernel = transposed_convolution_kernel(packer.shape(node.inputs[1]), **options)

    def reserve(allocate: Allocate) -> Panels:
        weights, biases = kernel.shapes(target)
        return allocate(weights), allocate(biases)

    def write(packed: Panels) -> None:
        bias = context.bias(node, y.shape[3])
        pack_weights(packer[node.inputs[1]], bias, kernel, packed, target)

    packed = packer.once((node.operator, kernel, *node.inputs[1:3]), reserve, write)
    return transposed_convolution_tasks(x, y, kernel, packed), []


def row_of_pixels(plane: Plane) -> Plane:
    """Return [N, C] as one row of N pixels."""
    return Plane(plane.value, (1, 1, plane.shape[0], plane.shape[3]))


def _linear(context: Context, node: Node) -> Lowering:
    """Lower a fully connected layer to a 1×1 convolution over one row of N pixels."""
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    oc, ic = context.packer.shape(node.inputs[1])
    task = convolution_task(
        row_of_pixels(x),
        row_of_pixels(y),
        Geometry((1, 1), (0, 0, 0, 0), (1, 1)),
        context.panels(node, (oc, 1, 1, ic))[0],
        (1, 1),
        epilogue=Epilogue(),
        group=(0, 1),
        target=context.target,
    )
    return [task], []


def _max_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y, *switches = (context.planes[name] for name in (*node.inputs, *node.outputs))
    winners = switches[0] if switches else None
    return max_pooling_tasks(x, y, winners, target=context.target, **options), []


def _average_pooling(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return average_pooling_tasks(x, y, target=context.target, **options), []


def _global_average_pooling(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return global_average_pooling_tasks(x, y, context.target), []


def _add(context: Context, node: Node) -> Lowering:
    a, b, y = (context.planes[name] for name in (*node.inputs, node.name))
    return add_tasks(a, b, y, context.target), []


def _activation(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    kind: Any = node.operator
    return activation_tasks(kind, x, y, context.target, **options), []


def _prelu(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return prelu_tasks(x, y, context.packer.array(node.inputs[1]), context.target), []


def _batch_norm(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    if context.packer.changes(*node.inputs[1:]):
        parameters = [context.packer.array(name) for name in node.inputs[1:]]
        return batch_norm_given_tasks(x, y, parameters, **options)
    weight, bias, mean, variance = (context.packer[name] for name in node.inputs[1:])
    tasks = batch_norm_tasks(x, y, weight, bias, mean, variance, context.target, **options)
    return tasks, []


def _zero_padding_shortcut(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    stride: Any = node.options["stride"]
    return zero_padding_shortcut_tasks(x, y, context.target, stride=stride), []


def _softmax(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return softmax_tasks(x, y, context.target), []


RULES: Mapping[str, Callable[[Context, Node], Lowering]] = {
    "convolution": _convolution,
    "fused_convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "linear": _linear,
    "max_pooling": _max_pooling,
    "average_pooling": _average_pooling,
    "global_average_pooling": _global_average_pooling,
    "relu": _activation,
    "leaky_relu": _activation,
    "sigmoid": _activation,
    "tanh": _activation,
    "prelu": _prelu,
    "add": _add,
    "zero_padding_shortcut": _zero_padding_shortcut,
    "batch_norm": _batch_norm,
    "softmax": _softmax,
}
