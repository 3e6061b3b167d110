"""Shape rules of the operators that only a training step has: gradients, and the update.

A gradient has the shape of what it is the gradient of. Strides and windows map several sizes to
one, so where the size of x cannot be told from that of y, x itself is an input. See
``shape_rules``.
"""

from __future__ import annotations

from typing import cast

from lushan.graph import shape_rules as rules
from lushan.graph.ir import Node, TensorType
from lushan.graph.shape_rules import Types


def convolution_backward_input(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, HO, WO, OC], weight, x [N, H, W, IC] to the same as x."""
    grad_y, weight, x = types
    rules.add(node, [grad_y, *rules.convolution(node, [x, weight])])
    return [x]


def convolution_backward_weight(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, HO, WO, OC], x [N, H, W, IC] to [OC, KH, KW, IC/G]."""
    rules.require(node, types, (None,) * 4, (None,) * 4)
    grad_y, x = types
    oc, ic = grad_y.shape[3], x.shape[3]
    kernel = cast("tuple[int, int]", node.options["kernel"])
    groups = cast("int", node.options["groups"])
    if oc is None or ic is None:
        return [TensorType((oc, *kernel, None if ic is None else ic // groups), x.dtype)]
    # Groups that do not divide the channels are refused by the rule of the convolution.
    weight = TensorType((oc, *kernel, max(1, ic // groups)), x.dtype)
    rules.add(node, [grad_y, *rules.convolution(node, [x, weight])])
    return [weight]


def channel_sum(node: Node, types: Types) -> list[TensorType]:
    """Map x [..., C] to [C]."""
    return [TensorType((rules.channels(node, types),), types[0].dtype)]


def linear_backward_input(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, OC], weight [OC, IC] to [N, IC]."""
    rules.require(node, types, (None, None), (None, None))
    grad_y, weight = types
    rules.require(node, [grad_y], (None, weight.shape[0]))
    return [TensorType((grad_y.shape[0], weight.shape[1]), grad_y.dtype)]


def linear_backward_weight(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, OC], x [N, IC] to [OC, IC]."""
    rules.require(node, types, (None, None), (None, None))
    grad_y, x = types
    rules.require(node, [grad_y], (x.shape[0], None))
    return [TensorType((grad_y.shape[1], x.shape[1]), x.dtype)]


def batch_norm_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y, x [..., C], and weight, mean, variance [C] to x and twice [C]."""
    grad_y, x, *channelwise = types
    rules.add(node, [grad_y, x])
    rules.require(node, channelwise, *((rules.channels(node, [x]),),) * 3)
    return [x, channelwise[0], channelwise[0]]


def same_shape(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y and x or y, of one shape, to the same."""
    return rules.add(node, types)


def prelu_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y, x [..., C], slopes [C] to x and [C]."""
    grad_y, x, slope = types
    rules.add(node, [grad_y, x])
    return [*rules.prelu(node, [x, slope]), slope]


def max_pooling_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y, switches [N, HO, WO, C], x [N, H, W, C] to the same as x."""
    rules.require(node, types, *((None,) * 4,) * 3)
    grad_y, switches, x = types
    rules.add(node, [grad_y, switches])
    rules.require(node, [grad_y], (x.shape[0], None, None, x.shape[3]))
    return [x]


def average_pooling_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, HO, WO, C], x [N, H, W, C] to the same as x."""
    grad_y, x = types
    rules.add(node, [grad_y, rules.pooling(node, [x])[0]])
    return [x]


def global_average_pooling_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, C], x [N, H, W, C] to the same as x."""
    grad_y, x = types
    rules.add(node, [grad_y, *rules.global_average_pooling(node, [x])])
    return [x]


def zero_padding_shortcut_backward(node: Node, types: Types) -> list[TensorType]:
    """Map grad_y [N, HO, WO, channels], x [N, H, W, C] to the same as x."""
    rules.require(node, types, (None,) * 4, (None,) * 4)
    grad_y, x = types
    rules.add(node, [grad_y, rules.widened(node, x, grad_y.shape[3], types)])
    return [x]


def cross_entropy_backward(node: Node, types: Types) -> list[TensorType]:
    """Map scores [N, K] and a target to the same as the scores."""
    rules.cross_entropy(node, types)
    return [types[0]]


def number(node: Node, types: Types) -> list[TensorType]:
    """Map anything to a single number."""
    return [TensorType((), types[0].dtype)]


def numbers(node: Node, types: Types) -> list[TensorType]:
    """Map single numbers to one."""
    rules.require(node, types, *((),) * len(types))
    return [types[0]]


def sgd(node: Node, types: Types) -> list[TensorType]:
    """Accept parameter, velocity and gradient of one shape, and three or four numbers."""
    parameter, velocity, gradient, *others = types
    rules.add(node, [parameter, velocity])
    rules.add(node, [parameter, gradient])
    rules.require(node, others, *((),) * len(others))
    return []
