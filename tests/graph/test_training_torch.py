"""Training against PyTorch: the same network, weights and batches give the same losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lushan.bench.torch_network import to_tensor
from lushan.bench.torch_training import TorchTraining
from lushan.graph import interpret
from lushan.graph.training import (
    TrainingProgram,
    UpdatingEngine,
    one_hot,
    training_state,
    training_step,
)
from lushan.models.initialize import initial_weights
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import build

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # threads of two runtimes on the same cores wait for each other

DECAY, MOMENTUM = 5e-4, 0.9


def batches(count: int, size: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures of ten classes that a network can learn to tell apart."""
    random = np.random.default_rng(0)
    patterns = random.standard_normal((10, side, side, 3), np.float32)
    for _ in range(count):
        labels = random.integers(0, 10, size)
        yield patterns[labels] + random.standard_normal((size, side, side, 3), np.float32), labels


def losses(
    network: ResNet,
    engine: UpdatingEngine,
    dtype: type,
    batch: tuple[int, int, int],
    rate: float,
    smoothing: float = 0.0,
) -> tuple[list[float], list[float]]:
    """Return our losses and PyTorch's, of a number of steps on pictures of a size."""
    graph = build(network)
    weights = {n: w.astype(dtype) for n, w in initial_weights(graph, seed=1).items()}
    peer = TorchTraining(
        graph, weights, memory_format=torch.contiguous_format, label_smoothing=smoothing
    )
    step = training_step(graph, label_smoothing=smoothing)
    program = TrainingProgram(step, training_state(step, weights), engine)
    ours, theirs = [], []
    for x, labels in batches(*batch):
        values = program.step(
            {
                "input": x,
                "targets": one_hot(labels, 10),
                "learning_rate": rate,
                "momentum": MOMENTUM,
                "weight_decay": DECAY,
            }
        )
        ours.append(float(values["loss"]))
        theirs.append(
            peer.step(
                to_tensor(x.astype(dtype), torch.contiguous_format),
                torch.from_numpy(labels),
                learning_rate=rate,
                momentum=MOMENTUM,
                weight_decay=DECAY,
            )
        )
    return ours, theirs


SMALL = ResNet("basic", (1, 1), (6, 9), classes=10, stem_channels=6)
NETWORKS = {
    "basic": SMALL,
    "bottleneck": replace(SMALL, block="bottleneck"),
    "zero padding": replace(SMALL, shortcut="zero_padding", stem_pooling="none", stem_stride=1),
    "plain": replace(SMALL, shortcut="none", batch_norm=False, activation="tanh"),
    "average": replace(SMALL, stem_pooling="average", activation="leaky_relu"),
    "sigmoid": replace(SMALL, activation="sigmoid"),
    "prelu": replace(SMALL, activation="prelu"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float64_losses_are_pytorchs(name: str) -> None:
    batch = (8, 6, 18)
    ours, theirs = losses(NETWORKS[name], interpret.compile, np.float64, batch, 0.05, 0.1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_the_first_fifty_losses_are_pytorchs() -> None:
    """In float64: in float32 either's rounding grows a thousandfold in three such steps."""
    network = ARCHITECTURES["resnet20_cifar"]
    ours, theirs = losses(network, interpret.compile, np.float64, (50, 4, 12), 0.016)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert np.mean(ours[-10:]) < 0.8 * np.mean(ours[:10])


def test_in_float32_losses_are_pytorchs_while_steps_are_small() -> None:
    network = ARCHITECTURES["resnet20_cifar"]
    ours, theirs = losses(network, interpret.compile, np.float32, (50, 16, 24), 2e-4)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert np.mean(ours[-10:]) < 0.9 * np.mean(ours[:10])
