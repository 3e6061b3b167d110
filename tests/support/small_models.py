"""A small model folder with random weights, for tests of everything around the network."""

from __future__ import annotations

from pathlib import Path

from lushan.models.checkpoint import from_parameters
from lushan.models.config import ModelConfig
from lushan.models.model_folder import write_model_folder
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build
from support.random_graphs import random_weights

NETWORK = ResNet(
    block="basic",
    depths=(1, 1),
    widths=(8, 16),
    stem_channels=8,
    stem_kernel=3,
    stem_stride=1,
    stem_pooling="none",
    classes=3,
)
LABELS = ("n02123045", "n01443537", "n03594945")  # tabby cat, goldfish, jeep


def write_small_model(folder: Path, network: ResNet = NETWORK, **config: object) -> Path:
    """Write ``network`` with random weights to ``folder`` and return it."""
    settings = {
        "architecture": "resnet",
        "num_classes": network.classes,
        "model_args": network.to_dict(),
        "label_names": LABELS[: network.classes] if network.classes <= len(LABELS) else None,
        "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 1.0},
    }
    weights = random_weights(build(network), seed=11)
    write_model_folder(folder, ModelConfig(**{**settings, **config}), from_parameters(weights))
    return folder
