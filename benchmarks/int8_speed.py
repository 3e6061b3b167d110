"""How fast a quantised network runs, beside ONNX Runtime and OpenVINO, in turn.

    python benchmarks/int8_speed.py [--model resnet50] [--batch 1] [--threads 1] [--runs 15]

Weights are random, and the model is calibrated on random pictures: neither changes the time. The
peers run the model that ONNX Runtime's static quantisation makes of the same network (uint8
activations, int8 weights, per channel); turns are taken as in ``lushan bench infer``. OpenVINO also
shows its THROUGHPUT hint where there are several pictures. Needs onnx, onnxruntime and openvino.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import numpy as np
from static_quantization import quantize_with_onnxruntime

from lushan.bench.disturbance import Disturbance
from lushan.bench.peers import OnnxRuntime, OpenVino, Workload
from lushan.bench.turns import take_turns
from lushan.models.zoo import random_model
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model
from lushan.recognizer import Recognizer

OURS, CALIBRATED_ON = "lushan", 4


@dataclass(frozen=True)
class QuantizedWorkload(Workload):
    """A workload whose ONNX file is quantised already."""

    quantized: bytes = b""

    @property
    def onnx(self) -> bytes:
        """The network as ONNX Runtime quantised it."""
        return self.quantized


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="an architecture")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15, help="turns of each contestant")
    arguments = parser.parse_args()
    model = random_model(arguments.model, seed=0)
    size = (model.preprocessing.height, model.preprocessing.width, 3)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (CALIBRATED_ON, *size), dtype=np.uint8)
    quantized = quantize_model(model, calibrate(model, list(pictures)), "mse")
    calibration = model.preprocessing.normalize(pictures)
    x = model.preprocessing.normalize(
        random.integers(0, 256, (arguments.batch, *size), dtype=np.uint8)
    )
    data = quantize_with_onnxruntime(model.graph, model.weights, calibration)
    workload = QuantizedWorkload(model.graph, model.weights, x, arguments.threads, data)
    recognizer = Recognizer(quantized, threads=arguments.threads)
    calls = {OURS: lambda: recognizer.scores(x)}
    for peer in (OnnxRuntime(), OpenVino()):
        for setting, call in peer.prepare(workload).items():
            calls[f"{peer.name} {peer.available()} ({setting})"] = call
    disturbance = Disturbance()
    seconds = take_turns(calls, arguments.runs)
    ours = statistics.median(seconds[OURS])
    print(f"{arguments.model} int8, batch {arguments.batch}, {arguments.threads} threads")
    print(f"others' work: {disturbance.cores()} cores")
    print(f"{'':<44}{'median ms':>10}{'least':>9}{'pictures/s':>12}{'ratio':>7}")
    for name, times in seconds.items():
        median = statistics.median(times)
        rate = arguments.batch / median
        numbers = f"{1e3 * median:>10.2f}{1e3 * min(times):>9.2f}{rate:>12.1f}"
        print(f"{name:<44}{numbers}{ours / median:>7.2f}")


if __name__ == "__main__":
    main()
