"""What a tour through a network costs: every explanation of one picture, in turn, once.

    python benchmarks/explain_tour.py MODEL PICTURE [--deconvnets 9] [--positions 49]

MODEL is a published architecture with initial weights, or anything ``lushan.load`` takes. Prints
the seconds of each part and the peak of the memory of the process; run it twice, for the first run
compiles kernels. Timings only: nothing is asserted.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lushan import explain
from lushan.models.resnet import ARCHITECTURES
from lushan.models.zoo import random_model
from lushan.recognizer import Recognizer, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--deconvnets", type=int, default=9, help="channels of each stage")
    parser.add_argument("--positions", type=int, default=49, help="about so many occlusions")
    parser.add_argument("--cells", type=int, default=50, help="activations taken apart")
    arguments = parser.parse_args()
    start = time.perf_counter()

    def timed(name: str, function: Callable[[], Any]) -> Any:
        before = time.perf_counter()
        result = function()
        print(f"{name:<28}{time.perf_counter() - before:8.3f} s{peak():8.0f} MB")
        return result

    recognizer = timed("load", lambda: recognizer_of(arguments.model))
    inspection = timed("inspect", lambda: explain.Inspection(recognizer, arguments.picture))
    tour(inspection, arguments, timed)
    print(f"{'all':<28}{time.perf_counter() - start:8.3f} s{peak():8.0f} MB")
    recognizer.close()


def tour(inspection: explain.Inspection, arguments: argparse.Namespace, timed: Any) -> None:
    """Run every explanation; the memory of what was shown is given back in between."""
    timed("residual blocks", lambda: explain.residual_blocks(inspection))
    timed("activations", lambda: explain.activation_statistics(inspection))
    inspection.forget()
    index = inspection.predictions()[0].index
    timed("cam", lambda: explain.cam(inspection, index))
    timed("grad-cam", lambda: explain.gradcam(inspection, index))
    timed("contributions", lambda: explain.contributions(inspection, index))
    for layer in ends_of_stages(inspection):
        chosen = explain.strongest_channels(inspection, layer, arguments.deconvnets)
        channels = [channel.channel for channel in chosen]
        timed(
            f"{len(channels)} deconvnets {layer}",
            lambda layer=layer, channels=channels: explain.deconvnet(inspection, layer, channels),
        )
    inspection.forget()
    timed(
        "guided back-propagation",
        lambda: explain.guided_backpropagation(inspection, inspection.output, [index]),
    )
    inspection.forget()
    size = max(1, round(min(inspection.size) / arguments.positions**0.5))
    timed("occlusion", lambda: explain.occlusion(inspection, index, size=size, stride=size))
    timed(f"{arguments.cells} cells", lambda: cells(inspection, arguments.cells))


def ends_of_stages(inspection: explain.Inspection) -> list[str]:
    """Return the activation of the stem and the last one of each stage."""
    last = {
        name.partition(".")[0]: name
        for name in inspection.nodes
        if inspection.graph.node(name).operator == "relu"
    }
    return list(last.values())


def cells(inspection: explain.Inspection, count: int) -> None:
    """Take activations of a middle stage apart."""
    layer = ends_of_stages(inspection)[len(ends_of_stages(inspection)) // 2]
    height, width, channels = inspection.shape(layer)
    for cell in range(count):
        place = (cell % height, cell * 7 % width)
        explain.arithmetic(inspection, layer, cell * 5 % channels, place)


def recognizer_of(name: str) -> Recognizer:
    if name in ARCHITECTURES:
        return Recognizer(random_model(name, seed=1))
    return load(name)


def peak() -> float:
    """Return the greatest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
