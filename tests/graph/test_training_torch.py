"""Training against PyTorch: the same network, weights and batches give the same losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from lushan.bench.torch_network import FUNCTIONS
from lushan.graph import interpret
from lushan.graph.ir import Graph
from lushan.graph.training import TrainingProgram, one_hot, training_state, training_step
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build

torch = pytest.importorskip("torch")

DECAY, MOMENTUM = 5e-4, 0.9


class Peer:
    """A network trained by PyTorch, with weights of ours."""

    def __init__(self, graph: Graph, weights: Mapping[str, np.ndarray]) -> None:
        self.graph = graph
        updated = {name for node in graph.nodes if node.operator == "batch_norm"
                   for name in node.inputs[3:]}  # fmt: skip
        self.parameters = {
            name: torch.tensor(np.moveaxis(w, -1, 1) if w.ndim == 4 else w).contiguous()
            for name, w in weights.items()
        }
        trained = [w.requires_grad_() for name, w in self.parameters.items() if name not in updated]
        self.optimizer = torch.optim.SGD(
            trained, lr=1.0, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True
        )

    def scores(self, x: np.ndarray) -> Any:
        f = torch.nn.functional
        values = {**self.parameters, "input": torch.tensor(np.moveaxis(x, -1, 1)).contiguous()}
        for node in self.graph.nodes:
            inputs = [values[name] for name in node.inputs]
            if node.operator == "batch_norm":
                x_, weight, bias, *running = inputs
                values[node.name] = f.batch_norm(
                    x_, *running, weight, bias, training=True, eps=node.options["epsilon"]
                )
            else:
                values[node.name] = FUNCTIONS[node.operator](f, *inputs, **node.options)
        return values[self.graph.outputs[0]]

    def step(self, x: np.ndarray, labels: np.ndarray, rate: float, smoothing: float) -> float:
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            self.scores(x), torch.tensor(labels), label_smoothing=smoothing
        )
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def batches(count: int, size: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures of ten classes that a network can learn to tell apart."""
    random = np.random.default_rng(0)
    patterns = random.standard_normal((10, side, side, 3), np.float32)
    for _ in range(count):
        labels = random.integers(0, 10, size)
        yield patterns[labels] + random.standard_normal((size, side, side, 3), np.float32), labels


@pytest.mark.parametrize(
    ("name", "steps", "size", "side", "smoothing"),
    [("resnet20_cifar", 50, 16, 32, 0.0), ("resnet18", 4, 4, 64, 0.1), ("resnet50", 3, 4, 64, 0.0)],
)
def test_losses_are_pytorchs(name: str, steps: int, size: int, side: int, smoothing: float) -> None:
    graph = build(ARCHITECTURES[name].with_classes(10))
    weights = initial_weights(graph, seed=1)
    peer = Peer(graph, weights)
    step = training_step(graph, label_smoothing=smoothing)
    program = TrainingProgram(step, training_state(step, weights), interpret.compile)
    for number, (x, labels) in enumerate(batches(steps, size, side)):
        rate = 0.05 * min(1, (number + 1) / 10)
        values = program.step(
            {
                "input": x,
                "targets": one_hot(labels, 10),
                "learning_rate": rate,
                "momentum": MOMENTUM,
                "weight_decay": DECAY,
            }
        )
        assert values["loss"] == pytest.approx(peer.step(x, labels, rate, smoothing), abs=1e-3)
