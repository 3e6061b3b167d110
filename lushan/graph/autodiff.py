"""Back-propagation as a rewrite: from the nodes of a network to the nodes of its gradients.

Every operator has a rule that says, given the name of the gradient of its output, which nodes make
those of its inputs (mission, chapter 13). The nodes are walked backwards. A value that several
nodes read gets the sum of what each of them sends back, added up as it comes. Nothing is computed
for a value that no trained parameter is above of, or that does not reach the loss.

A rule reads of the forward pass what its operator in ``lushan.reference`` takes; what no rule reads
may go before the backward pass begins, and ``liveness`` lets it go. ReLU, sigmoid and tanh are
differentiated by their output, which the next layer keeps anyway.

Left out: gradients of gradients, of inference on bytes, and of transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

from lushan.errors import GraphError
from lushan.graph.ir import Attribute, Node, TensorType

Rule: TypeAlias = "Callable[[Backward, Node, str], None]"


class Derivative(NamedTuple):
    """How an operator is differentiated: by which of its inputs, and with which nodes."""

    inputs: tuple[int, ...]
    rule: Rule


class Backward:
    """The backward pass of ``nodes``, the gradients that it knows so far, and its own nodes.

    ``types`` are those of all values; ``trained`` are the parameters, or any values, that want a
    gradient. Max pooling must give its switches where its input wants one. ``rules`` take the place
    of those in ``DERIVATIVES``, for a way back that is no gradient.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        types: Mapping[str, TensorType],
        trained: Iterable[str],
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        self.nodes: list[Node] = []
        self.types = types
        self._forward = nodes
        self._wanted = wanting(nodes, trained)
        self._rules = {name: derivative.rule for name, derivative in DERIVATIVES.items()}
        self._rules.update(rules or {})
        self._gradients: dict[str, str] = {}
        self._made: dict[str, int] = {}

    def run(self, value: str, gradient: str, after: Callable[[Node], None]) -> None:
        """Walk back from ``value``, whose gradient is given; tell ``after`` of each node passed."""
        self._gradients[value] = gradient
        for node in reversed(self._forward):
            sent = self._gradients.get(node.outputs[0])
            if sent is not None and node.outputs[0] in self._wanted:
                self._rules[node.operator](self, node, sent)
            after(node)

    def gradient(self, name: str) -> str | None:
        """Return the gradient of a value, once all who read it have been passed."""
        return self._gradients.get(name)

    def add(
        self, operator: str, inputs: tuple[str, ...], *outputs: str, **attributes: Attribute
    ) -> None:
        """Add a node to the backward pass."""
        self.nodes.append(Node(operator, inputs, outputs, tuple(sorted(attributes.items()))))

    def send(
        self, name: str, operator: str, inputs: tuple[str, ...], **attributes: Attribute
    ) -> None:
        """Send the value ``name`` the gradient that a node computes, if it wants one."""
        if name in self._wanted:
            gradient = self.fresh(name)
            self.add(operator, inputs, gradient, **attributes)
            self.pass_on(name, gradient)

    def pass_on(self, name: str, gradient: str) -> None:
        """Send the value ``name`` a gradient that there is, if it wants one."""
        if name not in self._wanted:
            return
        before = self._gradients.get(name)
        if before is not None:
            total = self.fresh(name)
            self.add("add", (before, gradient), total)
            gradient = total
        self._gradients[name] = gradient

    def fresh(self, name: str) -> str:
        """Return a name for one more gradient of the value ``name``."""
        self._made[name] = number = self._made.get(name, 0) + 1
        return f"{name}.gradient" if number == 1 else f"{name}.gradient.{number}"


def wanting(nodes: Sequence[Node], trained: Iterable[str]) -> set[str]:
    """Return ``trained`` and the values that depend on them.

    Raises GraphError where an operator that has no derivative stands between.
    """
    wanted = set(trained)
    for node in nodes:
        derivative = DERIVATIVES.get(node.operator)
        if derivative is None:
            if not wanted.isdisjoint(node.inputs):
                raise GraphError(
                    "{operator} {name!r} has no gradient: freeze what comes before it",
                    operator=node.operator,
                    name=node.name,
                )
        elif not wanted.isdisjoint(differentiable(node)):
            wanted.add(node.outputs[0])
    return wanted


def differentiable(node: Node) -> list[str]:
    """Return the inputs by which ``node`` is differentiated; none for an operator without."""
    derivative = DERIVATIVES.get(node.operator)
    places = derivative.inputs if derivative else ()
    return [node.inputs[place] for place in places if place < len(node.inputs)]


# --- rules ----------------------------------------------------------------------------------------


def _convolution(back: Backward, node: Node, grad_y: str) -> None:
    x, weight, *bias = node.inputs
    if bias:
        back.send(bias[0], "channel_sum", (grad_y,))
    kernel = cast("tuple[int, int]", back.types[weight].shape[1:3])
    options = node.options
    back.send(weight, "convolution_backward_weight", (grad_y, x), kernel=kernel, **options)
    back.send(x, "convolution_backward_input", (grad_y, weight, x), **options)


def _linear(back: Backward, node: Node, grad_y: str) -> None:
    x, weight, *bias = node.inputs
    if bias:
        back.send(bias[0], "channel_sum", (grad_y,))
    back.send(weight, "linear_backward_weight", (grad_y, x))
    back.send(x, "linear_backward_input", (grad_y, weight))


def _batch_norm(back: Backward, node: Node, grad_y: str) -> None:
    x, weight, bias, *statistics = node.inputs
    if node.operator == "batch_norm_training":
        statistics = list(node.outputs[1:])  # those of the batch
    gradients = [back.fresh(name) for name in (x, weight, bias)]
    back.add(
        f"{node.operator}_backward",
        (grad_y, x, weight, *statistics),
        *gradients,
        epsilon=node.options["epsilon"],
    )
    for name, gradient in zip((x, weight, bias), gradients, strict=True):
        back.pass_on(name, gradient)


def _by_output(back: Backward, node: Node, grad_y: str) -> None:
    back.send(node.inputs[0], f"{node.operator}_backward", (grad_y, node.outputs[0]))


def _leaky_relu(back: Backward, node: Node, grad_y: str) -> None:
    slope = cast("float", node.options["slope"])
    # A slope below 0 makes negative numbers positive: then the output does not tell them apart.
    known = node.outputs[0] if slope >= 0 else node.inputs[0]
    back.send(node.inputs[0], "leaky_relu_backward", (grad_y, known), slope=slope)


def _prelu(back: Backward, node: Node, grad_y: str) -> None:
    gradients = [back.fresh(name) for name in node.inputs]
    back.add("prelu_backward", (grad_y, *node.inputs), *gradients)
    for name, gradient in zip(node.inputs, gradients, strict=True):
        back.pass_on(name, gradient)


def _max_pooling(back: Backward, node: Node, grad_y: str) -> None:
    x = node.inputs[0]
    back.send(x, "max_pooling_backward", (grad_y, node.outputs[1], x))


def _by_place(back: Backward, node: Node, grad_y: str) -> None:
    """Send gradients back to where x lies, with the attributes of the operator."""
    x = node.inputs[0]
    back.send(x, f"{node.operator}_backward", (grad_y, x), **node.options)


def _zero_padding_shortcut(back: Backward, node: Node, grad_y: str) -> None:
    x, stride = node.inputs[0], node.options["stride"]
    back.send(x, "zero_padding_shortcut_backward", (grad_y, x), stride=stride)


def _add(back: Backward, node: Node, grad_y: str) -> None:
    for name in node.inputs:
        back.pass_on(name, grad_y)


DERIVATIVES: Mapping[str, Derivative] = {
    "convolution": Derivative((0, 1, 2), _convolution),
    "linear": Derivative((0, 1, 2), _linear),
    "batch_norm": Derivative((0, 1, 2), _batch_norm),
    "batch_norm_training": Derivative((0, 1, 2), _batch_norm),
    "relu": Derivative((0,), _by_output),
    "sigmoid": Derivative((0,), _by_output),
    "tanh": Derivative((0,), _by_output),
    "leaky_relu": Derivative((0,), _leaky_relu),
    "prelu": Derivative((0, 1), _prelu),
    "max_pooling": Derivative((0,), _max_pooling),
    "average_pooling": Derivative((0,), _by_place),
    "global_average_pooling": Derivative((0,), _by_place),
    "zero_padding_shortcut": Derivative((0,), _zero_padding_shortcut),
    "add": Derivative((0, 1), _add),
}
