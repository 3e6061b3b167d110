"""How the operators of a training step become tasks; ``rules`` has those of every network.

Gradients of parameters are planes like any value. Parameters are arrays of the program's own: a
rule hands their addresses on, and what is packed of them is packed anew in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lushan.cpu.activation_backward import activation_backward_tasks, prelu_backward_tasks
from lushan.cpu.batch_norm_backward import batch_norm_backward_tasks
from lushan.cpu.batch_norm_training import batch_norm_training_tasks
from lushan.cpu.batch_norm_walk import Following
from lushan.cpu.channel_sums import channel_sum_tasks
from lushan.cpu.convolution import Epilogue, convolution_task
from lushan.cpu.convolution_backward import weight_gradient_tasks
from lushan.cpu.cross_entropy import cross_entropy_backward_tasks, cross_entropy_tasks
from lushan.cpu.lowering_context import Context, Lowering, clear
from lushan.cpu.packing import Allocate, Panels
from lushan.cpu.parameter_packing import pack_input_channels
from lushan.cpu.pooling_backward import (
    average_pooling_backward_tasks,
    global_average_pooling_backward_tasks,
    max_pooling_backward_tasks,
    zero_padding_shortcut_backward_tasks,
)
from lushan.cpu.rules import row_of_pixels
from lushan.cpu.sgd import (
    ClippingFactorKernel,
    TotalNormKernel,
    gradient_norm_tasks,
    number_task,
    sgd_tasks,
)
from lushan.cpu.sliding import Geometry
from lushan.cpu.tiling import LINEAR_VECTORS, choose_vectors
from lushan.cpu.transposed_convolution import (
    transposed_convolution_kernel,
    transposed_convolution_tasks,
)
from lushan.cpu.winograd import winograd_tasks
from lushan.cpu.winograd_gradient import winograd_gradient_tasks
from lushan.cpu.winograd_parameter_packing import pack_winograd_weights
from lushan.graph.ir import Node


def flipped_padding(
    options: Mapping[str, Any], kernel: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the padding of the convolution from grad_y to grad_x, None where there is none.

    A convolution at stride 1 has one, with the kernel turned round. Not where its own padding goes
    beyond the window: then some outputs saw nothing of the picture, and send nothing back.
    """
    if options["stride"] != (1, 1):
        return None
    top, bottom, left, right = options["padding"]
    down, across = (d * (k - 1) for d, k in zip(options["dilation"], kernel, strict=True))
    padding = (down - top, down - bottom, across - left, across - right)
    return padding if min(padding) >= 0 else None


def is_direct_input_gradient(context: Context, node: Node) -> bool:
    """Return whether an input gradient becomes a convolution with an epilogue of its own."""
    options: dict[str, Any] = node.options
    shape = context.packer.shape(node.inputs[1])
    if flipped_padding(options, (shape[1], shape[2])) is None:
        return False
    return not context.training_outputs(context.planes[node.inputs[0]], shape, options)


def _epilogue(context: Context, node: Node) -> Epilogue:
    """Return what follows an input gradient: the nodes that its chain took up."""
    options: dict[str, Any] = node.options
    beside = [context.planes[name] for name in node.inputs[3:]]
    return Epilogue(
        residual=beside[0] if options.get("residual") else None,
        gate=beside[-1] if options.get("gate") else None,
        slope=options.get("slope", 0.0),
    )


def _convolution_backward_input(context: Context, node: Node) -> Lowering:
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    options: dict[str, Any] = node.options
    oc, kh, kw, ic = context.packer.shape(node.inputs[1])
    padding = flipped_padding(options, (kh, kw))
    if padding is None:
        return _strided_backward_input(context, node)
    groups, target = options["groups"], context.target
    outputs = context.training_outputs(grad_y, (oc, kh, kw, ic), options)
    if outputs:
        return _winograd_backward_input(context, node, outputs)
    vectors = choose_vectors(ic, target)
    panels = context.input_panels(node, (oc // groups, kh, kw, ic), groups, vectors)
    geometry = Geometry((1, 1), padding, options["dilation"])
    tasks = [
        convolution_task(
            grad_y,
            grad_x,
            geometry,
            packed,
            (kh, kw),
            epilogue=_epilogue(context, node),
            group=(group, groups),
            target=target,
        )
        for group, packed in enumerate(panels)
    ]
    return tasks, []


def _winograd_backward_input(context: Context, node: Node, outputs: int) -> Lowering:
    """Lower it to Winograd's convolution with tiles of so many outputs."""
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    packing, weights = pack_winograd_weights(
        context.packer.array(node.inputs[1]),
        outputs,
        context.target,
        name=f"{node.name} weights",
        backward=True,
    )
    biases = np.zeros(grad_x.shape[3], np.float32)
    tasks, temporaries = winograd_tasks(
        grad_y, grad_x, None, weights, biases, outputs, context.target
    )
    return [packing, *tasks], [weights, *temporaries]


def _strided_backward_input(context: Context, node: Node) -> Lowering:
    """Lower it to a transposed convolution, which looks for what was sent to each pixel."""
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    options: dict[str, Any] = node.options
    packer, weight = context.packer, context.packer.array(node.inputs[1])
    kernel = transposed_convolution_kernel(weight.shape, **options)

    def reserve(allocate: Allocate) -> Panels:
        weights, biases = kernel.shapes(context.target)
        return allocate(weights), allocate(biases)

    packed = packer.once(
        (node.operator, kernel, node.inputs[1]), reserve, lambda packed: clear([packed])
    )
    block = kernel.block(context.target)
    parts = zip(weight.reshape(kernel.groups, -1, *weight.shape[1:]), packed[0], strict=True)
    last = weight.shape[3] - block
    tasks = [
        pack_input_channels(part, panel, flipped=False, block=block, last=last)
        for part, panel in parts
    ]
    context.pack(node.inputs[1], tasks, packed[0])
    return transposed_convolution_tasks(grad_y, grad_x, kernel, packed), []


def _convolution_backward_weight(context: Context, node: Node) -> Lowering:
    grad_y, x = (context.planes[name] for name in node.inputs)
    options: dict[str, Any] = node.options
    geometry = Geometry(options["stride"], options["padding"], options["dilation"])
    y = context.planes[node.name]
    outputs = context.training_outputs(grad_y, y.shape, options)
    if outputs:
        return winograd_gradient_tasks(grad_y, x, y, outputs, context.target)
    return weight_gradient_tasks(
        grad_y, x, y, geometry, options["kernel"], options["groups"], context.target
    )


def _linear_backward_input(context: Context, node: Node) -> Lowering:
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    oc, ic = context.packer.shape(node.inputs[1])
    panels = context.input_panels(node, (oc, 1, 1, ic), 1, LINEAR_VECTORS)
    task = convolution_task(
        row_of_pixels(grad_y),
        row_of_pixels(grad_x),
        _POINT,
        panels[0],
        (1, 1),
        epilogue=Epilogue(),
        group=(0, 1),
        target=context.target,
    )
    return [task], []


_POINT = Geometry((1, 1), (0, 0, 0, 0), (1, 1))


def _linear_backward_weight(context: Context, node: Node) -> Lowering:
    grad_y, x = (row_of_pixels(context.planes[name]) for name in node.inputs)
    y = context.planes[node.name]
    return weight_gradient_tasks(grad_y, x, y, _POINT, (1, 1), 1, context.target)


def _channel_sum(context: Context, node: Node) -> Lowering:
    x, y = context.planes[node.inputs[0]], context.planes[node.name]
    return channel_sum_tasks("sum", x, y)


def _batch_norm_training(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    x, y, mean, variance = (context.planes[name] for name in (node.inputs[0], *node.outputs))
    parameters = [context.packer.array(name) for name in node.inputs[1:5]]
    residual = context.planes[node.inputs[5]] if len(node.inputs) > 5 else None  # of a chain
    activation, slope = options.pop("activation", "none"), options.pop("slope", 0.0)
    following = Following(residual, activation, slope)
    return batch_norm_training_tasks(
        x, y, (mean, variance), parameters, following=following, **options
    )


def _batch_norm_backward(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    grad_y, x = (context.planes[name] for name in node.inputs[:2])
    grad_x, grad_weight, grad_bias = (context.planes[name] for name in node.outputs)
    given = node.operator == "batch_norm_backward"
    statistics: Any = [
        context.packer.array(name) if given else context.planes[name] for name in node.inputs[3:]
    ]
    weight = context.packer.array(node.inputs[2])
    outputs = (grad_x, grad_weight, grad_bias)
    return batch_norm_backward_tasks(grad_y, x, outputs, weight, statistics, **options)


def _activation_backward(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    grad_y, known = (context.planes[name] for name in node.inputs)
    kind: Any = node.operator.removesuffix("_backward")
    grad_x = context.overwrite(node, node.inputs[0])
    return activation_backward_tasks(kind, grad_y, known, grad_x, **options), []


def _prelu_backward(context: Context, node: Node) -> Lowering:
    grad_y, x = (context.planes[name] for name in node.inputs[:2])
    grad_x, grad_slope = (context.planes[name] for name in node.outputs)
    slope = context.packer.array(node.inputs[2])
    return prelu_backward_tasks(grad_y, x, slope, grad_x, grad_slope)


def _max_pooling_backward(context: Context, node: Node) -> Lowering:
    grad_y, switches = (context.planes[name] for name in node.inputs[:2])
    return max_pooling_backward_tasks(grad_y, switches, context.planes[node.name]), []


def _average_pooling_backward(context: Context, node: Node) -> Lowering:
    options: dict[str, Any] = node.options
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    return average_pooling_backward_tasks(grad_y, grad_x, **options), []


def _global_average_pooling_backward(context: Context, node: Node) -> Lowering:
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    return global_average_pooling_backward_tasks(grad_y, grad_x), []


def _zero_padding_shortcut_backward(context: Context, node: Node) -> Lowering:
    grad_y, grad_x = context.planes[node.inputs[0]], context.planes[node.name]
    stride: Any = node.options["stride"]
    return zero_padding_shortcut_backward_tasks(grad_y, grad_x, stride=stride), []


def _cross_entropy(context: Context, node: Node) -> Lowering:
    smoothing: Any = node.options["label_smoothing"]
    scores, target, y = (context.planes[name] for name in (*node.inputs, node.name))
    return cross_entropy_tasks(scores, target, y, label_smoothing=smoothing)


def _cross_entropy_backward(context: Context, node: Node) -> Lowering:
    smoothing: Any = node.options["label_smoothing"]
    scores, target, y = (context.planes[name] for name in (*node.inputs, node.name))
    return cross_entropy_backward_tasks(scores, target, y, label_smoothing=smoothing), []


def _gradient_norm(context: Context, node: Node) -> Lowering:
    return gradient_norm_tasks(context.planes[node.inputs[0]], context.planes[node.name])


def _total_norm(context: Context, node: Node) -> Lowering:
    inputs = [context.planes[name] for name in node.inputs]
    return [number_task(TotalNormKernel(len(inputs)), context.planes[node.name], *inputs)], []


def _clipping_factor(context: Context, node: Node) -> Lowering:
    most: Any = node.options["most"]
    norm, y = context.planes[node.inputs[0]], context.planes[node.name]
    return [number_task(ClippingFactorKernel(most), y, norm)], []


def _sgd(context: Context, node: Node) -> Lowering:
    nesterov: Any = node.options["nesterov"]
    parameter, velocity = (context.packer.array(name) for name in node.updates)
    gradient, rate, momentum, decay, *factor = (context.planes[name] for name in node.inputs[2:])
    tasks = sgd_tasks(
        parameter,
        velocity,
        gradient,
        (rate, momentum, decay),
        factor[0] if factor else None,
        nesterov=nesterov,
    )
    return tasks, []


GRADIENT_RULES: Mapping[str, Callable[[Context, Node], Lowering]] = {
    "convolution_backward_input": _convolution_backward_input,
    "convolution_backward_weight": _convolution_backward_weight,
    "linear_backward_input": _linear_backward_input,
    "linear_backward_weight": _linear_backward_weight,
    "channel_sum": _channel_sum,
    "batch_norm_training": _batch_norm_training,
    "batch_norm_training_backward": _batch_norm_backward,
    "batch_norm_backward": _batch_norm_backward,
    "relu_backward": _activation_backward,
    "leaky_relu_backward": _activation_backward,
    "sigmoid_backward": _activation_backward,
    "tanh_backward": _activation_backward,
    "prelu_backward": _prelu_backward,
    "max_pooling_backward": _max_pooling_backward,
    "average_pooling_backward": _average_pooling_backward,
    "global_average_pooling_backward": _global_average_pooling_backward,
    "zero_padding_shortcut_backward": _zero_padding_shortcut_backward,
    "cross_entropy": _cross_entropy,
    "cross_entropy_backward": _cross_entropy_backward,
    "gradient_norm": _gradient_norm,
    "total_norm": _total_norm,
    "clipping_factor": _clipping_factor,
    "sgd": _sgd,
}
