"""The way back from a layer to one before it, as a graph that an engine compiles like any other.

Three ways differ only in what happens to the signal at a ReLU:

    gradient    passes where the network's own activation was positive
    guided      passes there, where it is positive itself (Springenberg et al. 2014)
    deconvnet   passes where it is positive itself (Zeiler & Fergus 2013)

Everything else is what back-propagation does (``graph/autodiff.py``): at a sum the signal goes
along both the branch and the shortcut, and what comes back from them is added; max pooling sends it
to the pixels that won, by the switches; a convolution sends it back through the same weights, which
is a transposed convolution. Where the stride is 1 that is a plain convolution, with the kernel
turned round and input and output channels exchanged: the fastest kernels do it. The network is
folded first, so no batch norm is on the way.

Before::

    c = convolution(x, weight)              stride 1
    y = relu(c)

After (deconvnet)::

    c.gradient = relu(y.gradient)
    x.gradient = convolution(c.gradient, weight.turned)

What the way back needs of the forward pass (the activations for a gradient, what max pooling saw)
comes in as inputs, recorded once; so many signals can go back in one batch without the forward pass
being repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from lushan.errors import UsageError
from lushan.graph.autodiff import Backward, Rule
from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node, TensorType, Value
from lushan.graph.shape_rules import window_of
from lushan.graph.verify import infer_types
from lushan.graph.weights import Factors, New, derived, factors_of
from lushan.passes.fold_batch_norm import fold_batch_norm

SIGNAL = "signal"  # the input of a way back: what starts at its first layer, in that layer's shape

_ACTIVATIONS = ("leaky_relu", "prelu", "sigmoid", "tanh")


@dataclass(frozen=True)
class WayBack:
    """A graph from ``signal`` and ``recorded`` values of the forward pass to one ``output``.

    ``arrivals`` are the names of what arrives at the values on the way, by those values.
    """

    graph: Graph
    weights: Mapping[str, Array]
    recorded: tuple[str, ...]
    arrivals: Mapping[str, str]

    @property
    def output(self) -> str:
        """The name of what arrives at the end."""
        return self.graph.outputs[0]


def way_back(
    network: Graph,
    weights: Mapping[str, Array],
    source: str,
    target: str,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    rule: str = "gradient",
) -> WayBack:
    """Return the way back from the value ``source`` to ``target``, which ``source`` depends on.

    ``rule`` is one of ``RULES``. ``shapes`` are those of the network's inputs: what a stride took
    from a size must be known. Any batch of signals goes. Raises UsageError where guided
    back-propagation or deconvnet would meet another activation than ReLU: they are not defined for
    it.
    """
    graph, folded = fold_batch_norm(network, weights, keep=(source, target))
    last = next(n for n, node in enumerate(graph.nodes) if source in node.outputs)
    nodes = graph.nodes[: last + 1]
    if rule != "gradient":
        _check_activations(nodes, source, target)
    sizes = infer_types(graph, shapes)
    turned: dict[str, New] = {}
    rules: dict[str, Rule] = {
        "convolution": partial(_convolution, folded, turned),
        "max_pooling": _max_pooling,
    }
    back = Backward(nodes, sizes, [target], {**rules, **RULES[rule]})
    back.run(source, SIGNAL, lambda node: None)
    output = back.gradient(target) or SIGNAL
    everything = derived(folded, turned)  # of no known origin: not worth a place in a cache
    made = {name for node in back.nodes for name in node.outputs}
    read = dict.fromkeys(name for node in back.nodes for name in node.inputs)
    parameters = tuple(
        Value(name, TensorType(everything.shape(name))) for name in read if name in everything
    )
    recorded = tuple(n for n in read if n not in made and n not in everything and n != SIGNAL)
    types = infer_types(graph)
    inputs = (
        Value(SIGNAL, types[source]),
        *(Value(name, types[name]) for name in recorded),
    )
    result = Graph(inputs, parameters, tuple(back.nodes), (output,))
    arrivals = {
        name: arrived for node in nodes for name in node.outputs if (arrived := back.gradient(name))
    }
    return WayBack(result, everything, recorded, arrivals)


def _check_activations(nodes: tuple[Node, ...], source: str, target: str) -> None:
    """Raise UsageError for an activation other than ReLU between ``target`` and ``source``."""
    after = {target}
    for node in nodes:
        if after.isdisjoint(node.inputs):
            continue
        after.update(node.outputs)
        if node.operator in _ACTIVATIONS:
            raise UsageError(
                "guided back-propagation and deconvnet are defined for ReLU; {name} is "
                "{operator}: use Grad-CAM or occlusion",
                name=node.name,
                operator=node.operator,
            )


# --- rules ----------------------------------------------------------------------------------------


def _convolution(
    weights: Mapping[str, Array], turned: dict[str, New], back: Backward, node: Node, grad_y: str
) -> None:
    x, weight = node.inputs[:2]
    options: dict[str, Any] = node.options
    slide = window_of(node, cast("tuple[int, int]", back.types[weight].shape[1:3]))
    down, across = (side - 1 for side in slide.effective_kernel)
    top, bottom, left, right = slide.padding
    padding = (down - top, down - bottom, across - left, across - right)
    if slide.stride == (1, 1) and min(padding) >= 0:
        name = f"{weight}.turned"
        groups = options["groups"]
        oc, kh, kw, ic = cast("tuple[int, ...]", back.types[weight].shape)
        shape = (groups * ic, kh, kw, oc // groups)
        turned[name] = New(shape, partial(_turned, weights, weight, groups))
        back.send(x, "convolution", (grad_y, name), **{**options, "padding": padding})
        return
    (H, W), (HO, WO) = (back.types[value].shape[1:3] for value in (x, node.name))
    reached = slide.transposed_size(cast("int", HO), cast("int", WO), 0)
    more = (cast("int", H) - reached[0], cast("int", W) - reached[1])
    back.send(x, "transposed_convolution", (grad_y, weight), output_padding=more, **options)


def _turned(weights: Mapping[str, Array], weight: str, groups: int) -> Factors:
    """Return a weight [OC, KH, KW, IC/G] turned round for the way back: [IC, KH, KW, OC/G]."""
    array = factors_of(weights, weight).product()[:, ::-1, ::-1]
    oc, kh, kw, ic = array.shape
    split = array.reshape(groups, oc // groups, kh, kw, ic)
    exchanged = split.transpose(0, 4, 2, 3, 1)
    return Factors(exchanged.reshape(groups * ic, kh, kw, oc // groups), None)


def _max_pooling(back: Backward, node: Node, grad_y: str) -> None:
    """Unpool: the switches are computed from what was pooled, which they are a function of."""
    x = node.inputs[0]
    switches = f"{node.name}.switches"
    back.add("max_pooling", (x,), f"{node.name}.again", switches, **node.options)
    back.send(x, "max_pooling_backward", (grad_y, switches, x))


def _guided_relu(back: Backward, node: Node, grad_y: str) -> None:
    positive = f"{node.name}.positive"
    back.add("relu", (grad_y,), positive)
    back.send(node.inputs[0], "relu_backward", (positive, node.outputs[0]))


def _deconvnet_relu(back: Backward, node: Node, grad_y: str) -> None:
    back.send(node.inputs[0], "relu", (grad_y,))


RULES: Mapping[str, Mapping[str, Rule]] = {
    "gradient": {},
    "guided": {"relu": _guided_relu},
    "deconvnet": {"relu": _deconvnet_relu},
}
