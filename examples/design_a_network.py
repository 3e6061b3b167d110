"""Design a variant of ResNet in a few lines, count it, run it, and save it as a model folder.

Run: python examples/design_a_network.py OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from lushan.graph import interpret
from lushan.models.checkpoint import from_parameters
from lushan.models.config import ModelConfig
from lushan.models.initialize import initial_weights
from lushan.models.model_folder import write_model_folder
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize

# A small net for 64×64 pictures of five kinds of flowers: PReLU, and a stem that keeps the size.
FLOWERS = ResNet(
    block="basic",
    depths=(1, 1, 1),
    widths=(16, 32, 64),
    activation="prelu",
    stem_channels=16,
    stem_kernel=3,
    stem_stride=1,
    stem_pooling="none",
    classes=5,
)
# The same net without shortcuts: what chapter 8 of the tour compares it with.
PLAIN = replace(FLOWERS, shortcut="none")


def main(folder: str) -> None:
    for name, network in (("residual", FLOWERS), ("plain", PLAIN)):
        counts = summarize(build(network), 64, 64)
        print(
            f"{name}: {counts.weighted_layers} layers, {counts.parameters:,} parameters, "
            f"{counts.multiply_accumulates / 1e6:.1f} MMAC"
        )
    graph = build(FLOWERS)
    weights = initial_weights(graph, seed=0)
    program = interpret.compile(graph, weights)
    pictures = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
    print("scores:", program({"input": pictures})["fc"].round(2).tolist())

    config = ModelConfig(
        architecture="resnet",
        num_classes=5,
        model_args=FLOWERS.to_dict(),
        label_names=("rose", "tulip", "daisy", "iris", "peony"),
        pretrained_cfg={"input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9},
    )
    write_model_folder(folder, config, from_parameters(weights))
    print("saved to", folder)


if __name__ == "__main__":
    main(sys.argv[1])
