"""A network that PyTorch trains: forward, loss, backward, update, as one writes them there.

It is made from the network, not from our graph of a step, so it tells what a step should be. It
spends as little as a careful user would: gradients are None between steps, a value is dropped after
its last reader, ReLU and addition work in place wherever no gradient needs what they overwrite.
Left out: ``torch.compile``, which needs a C++ compiler where it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from lushan.bench.torch_network import (
    FUNCTIONS,
    IN_PLACE,
    Tensor,
    check_operators,
    to_tensor,
    torch_functional,
)
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.liveness import last_uses
from lushan.graph.training import RUNNING_MOMENTUM

# Their gradient is computed from their output, which must stay.
_NEED_THEIR_OUTPUT = ("relu", "sigmoid", "tanh", "softmax")


class TorchTraining:
    """The training of ``graph``, whose one output is scores, from ``weights``, which are copied.

    ``memory_format`` is torch's order of memory; ``frozen`` are prefixes of names, ``clip`` the
    largest norm of all gradients together, as in ``lushan.graph.training``; ``optimizer`` has
    options of ``torch.optim.SGD``, such as ``fused=True``. What it computes in is the type of the
    weights. Raises BenchmarkError for an operator that has no equal there.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        *,
        memory_format: Any,
        frozen: Collection[str] = (),
        clip: float | None = None,
        label_smoothing: float = 0.0,
        **optimizer: Any,
    ) -> None:
        import torch

        check_operators(graph)
        kept = {
            value.name
            for value in graph.parameters
            if any(value.name == part or value.name.startswith(f"{part}.") for part in frozen)
        }
        running = {
            name
            for node in graph.nodes
            if node.operator == "batch_norm"
            for name in node.inputs[3:]
        }
        self.parameters: dict[str, Tensor] = {
            value.name: to_tensor(weights[value.name], memory_format) for value in graph.parameters
        }
        self._trained = [
            tensor.requires_grad_()
            for name, tensor in self.parameters.items()
            if name not in kept | running
        ]
        # Rates are those of each step; a first momentum other than 0 allows Nesterov's.
        self._optimizer = torch.optim.SGD(
            self._trained, lr=1.0, momentum=0.9, nesterov=True, **optimizer
        )
        self._clip = clip
        self._label_smoothing = label_smoothing
        self._input, self._output = graph.inputs[0].name, graph.outputs[0]
        self._steps = _steps(graph, kept)
        self._functional = torch_functional()

    def step(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> float:
        """Do one step on pictures x [N, C, H, W] of classes [N]; return the loss before it."""
        import torch

        self._optimizer.param_groups[0].update(
            lr=learning_rate, momentum=momentum, weight_decay=weight_decay
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._functional.cross_entropy(
            self.scores(x), labels, label_smoothing=self._label_smoothing
        )
        loss.backward()
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
        self._optimizer.step()
        return float(loss.detach())

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores [N, K], by the statistics of this batch; running ones are updated."""
        values = {**self.parameters, self._input: x}
        for function, inputs, name, options, done in self._steps:
            values[name] = function(self._functional, *(values[i] for i in inputs), **options)
            for finished in done:
                values.pop(finished, None)
        return values[self._output]


def _steps(graph: Graph, kept: set[str]) -> list[tuple[Any, ...]]:
    """Return, for each node, its function, inputs, name, options and the values that die."""
    producers = graph.producers()
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    steps = []
    for node, dying in zip(graph.nodes, last_uses(graph, {graph.outputs[0]}), strict=True):
        function = FUNCTIONS[node.operator]
        first = producers.get(node.inputs[0])
        if node.operator == "batch_norm" and kept.isdisjoint(node.inputs[3:]):
            function = _batch_norm_training
        elif (
            first is not None
            and first.operator not in _NEED_THEIR_OUTPUT
            and readers[node.inputs[0]] == 1  # another may have kept it for its own gradient
        ):
            function = IN_PLACE.get(node.operator, function)
        steps.append((function, node.inputs, node.name, node.options, dying))
    return steps


def _batch_norm_training(f: Any, x: Tensor, *parameters: Tensor, epsilon: float) -> Tensor:
    weight, bias, mean, variance = parameters
    return f.batch_norm(
        x, mean, variance, weight, bias, training=True, momentum=RUNNING_MOMENTUM, eps=epsilon
    )
