"""How near the scores of a quantised network are to its float32 scores, beside ONNX Runtime.

Both quantise the same network, with random weights of a fixed seed or a model's own, on the same
pictures: lushan by each of its methods, ONNX Runtime by static quantisation to QDQ (uint8
activations, int8 weights, per channel) by each of its own. Shown is the signal-to-noise ratio at
the scores, in dB, on the calibration pictures and on as many others.

    python benchmarks/int8_accuracy.py pictures/ [--model resnet50] [--pictures 32]

Needs onnx and onnxruntime. Scores are compared, not classes: random weights recognise nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from static_quantization import quantize_with_onnxruntime

from lushan.engines import ENGINES
from lushan.image.decode import decode
from lushan.image.files import find_pictures
from lushan.models.onnx_export import to_nchw
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import Model, load_model, random_model
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model
from lushan.quantization.ranges import METHODS

BATCH = 4
PEER_METHODS = ("MinMax", "Percentile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of pictures")
    parser.add_argument("--model", default="resnet50", help="an architecture or a model")
    parser.add_argument("--pictures", type=int, default=32, help="for calibration")
    arguments = parser.parse_args()
    name = arguments.model
    model = random_model(name, seed=0) if name in ARCHITECTURES else load_model(name)
    found = list(find_pictures(arguments.folder))
    step = max(1, len(found) // (2 * arguments.pictures))
    chosen = found[::step][: 2 * arguments.pictures]
    seen, unseen = chosen[::2], chosen[1::2]
    x = {
        key: np.stack([model.preprocessing(decode(path)) for path in paths])
        for key, paths in (("calibration", seen), ("others", unseen))
    }
    exact = {key: run_model(model, batch) for key, batch in x.items()}
    print(f"{name}: {len(seen)} pictures to calibrate on, {len(unseen)} others; dB at the scores")
    print(f"{'':<28}{'calibration':>12}{'others':>12}")
    observed = calibrate(model, seen)
    for method in METHODS:
        quantized = quantize_model(model, observed, method)
        show(f"lushan {method}", exact, {k: run_model(quantized, v) for k, v in x.items()})
    for method in PEER_METHODS:
        scores = run_onnxruntime(model, x, method)
        show(f"ONNX Runtime {method}", exact, scores)


def run_model(model: Model, x: np.ndarray) -> np.ndarray:
    program = ENGINES["cpu"](model.graph, model.weights)
    output = model.graph.outputs[0]
    return np.concatenate([program({INPUT: part})[output] for part in batches(x)])


def batches(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[start : start + BATCH] for start in range(0, len(x), BATCH))


def run_onnxruntime(model: Model, x: dict[str, np.ndarray], method: str) -> dict[str, np.ndarray]:
    import onnxruntime

    data = quantize_with_onnxruntime(model.graph, model.weights, x["calibration"], method)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return {
        key: np.concatenate([session.run(None, {INPUT: to_nchw(p)})[0] for p in batches(batch)])
        for key, batch in x.items()
    }


def show(name: str, exact: dict[str, np.ndarray], scores: dict[str, np.ndarray]) -> None:
    ratios = []
    for key, signal in exact.items():
        noise = np.square(scores[key].astype(np.float64) - signal).sum()
        ratios.append(10 * np.log10(np.square(signal, dtype=np.float64).sum() / noise))
    print(f"{name:<28}" + "".join(f"{ratio:>12.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
