"""How long a fresh process takes to its first answer, and the most memory it holds.

Run: python benchmarks/cold_start.py [--model resnet50] [--precision int8] [--runs 7] [--engine cpu]
Each contestant is a fresh Python process, in turn; time runs from its creation to its scores of
one picture that is preprocessed already. Models lie on disk beforehand, in each one's own best
format. "cold" is the first start on a machine, "warm" every later one:

    lushan        cold: an empty cache folder         warm: the folder as the last start left it
    onnxruntime   cold: the ONNX file                 warm: that file after its own rewrites
    openvino      cold: its model file                warm: with its cache of compiled models

With ``--precision int8`` all run the same quantised network, written for the others with the sums
of its blocks rounded to bytes, as they like it best.

The first turn is not counted: it brings files into the system's cache, and lets Python compile
what an installation has compiled. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lushan.bench.infer import TOLERANCES
from lushan.models.checkpoint import from_parameters
from lushan.models.model_folder import WEIGHTS, write_model_folder
from lushan.models.onnx_export import to_nchw, to_onnx
from lushan.models.zoo import Model, random_model
from lushan.quantization.quantized_model import quantize_on_noise
from lushan.recognizer import PRECISIONS

# What a user of each would write. They find their files in the working folder.
LUSHAN = """
import lushan, numpy
scores = lushan.load("model", **{options}).scores(numpy.load("nhwc.npy"))
"""
ONNX_RUNTIME = """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
{options}
session = onnxruntime.InferenceSession("{file}", options, providers=["CPUExecutionProvider"])
scores = session.run(None, {{"input": numpy.load("nchw.npy")}})[0]
"""
OPENVINO = """
import numpy, openvino
core = openvino.Core()
settings = {{"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", {options}}}
request = core.compile_model("model.xml", "CPU", settings).create_infer_request()
scores = request.infer({{0: numpy.load("nchw.npy")}})[0]
"""
CLOSING = """
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(float(abs(scores).max()), int(status["VmHWM"].split()[0]) / 1024, flush=True)
"""


@dataclass
class Contestant:
    """A program, whether its cache is emptied before every start, and what was measured."""

    code: str
    cold: bool = False
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    score: float = 0.0

    def start(self, folder: Path) -> None:
        """Run once in ``folder`` and record time and memory."""
        cache = folder / ("cold-cache" if self.cold else "warm-cache")
        if self.cold:
            shutil.rmtree(cache, ignore_errors=True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        for name in ("LUSHAN_CACHE", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(name, None)
        command = [sys.executable, "-c", self.code + CLOSING]
        begin = time.perf_counter()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            self.seconds.append(time.perf_counter() - begin)
        if not line:
            raise SystemExit(f"this program failed:\n{self.code}")
        score, megabytes = line.split()
        self.megabytes.append(float(megabytes))
        self.score = float(score)


def prepare(model: Model, folder: Path, options: Mapping[str, str]) -> dict[str, Contestant]:
    """Write the model and a picture for each contestant that is installed."""
    shape = (1, model.preprocessing.height, model.preprocessing.width, 3)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.save(folder / "nhwc.npy", x)
    np.save(folder / "nchw.npy", to_nchw(x))
    write_model_folder(folder / "model", model.config, from_parameters(model.weights))
    ours = LUSHAN.format(options=json.dumps(options))
    contestants = {"lushan cold": Contestant(ours, cold=True), "lushan warm": Contestant(ours)}
    if importlib.util.find_spec("onnx") is None:
        return contestants
    network = to_onnx(model.graph, model.weights, round_before_sums=True)
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    if importlib.util.find_spec("onnxruntime"):
        contestants |= _onnx_runtime(folder)
    if importlib.util.find_spec("openvino"):
        contestants |= _openvino(folder)
    return contestants


def _onnx_runtime(folder: Path) -> dict[str, Contestant]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "rewritten.onnx")
    options.log_severity_level = 3  # it warns that the file fits this processor: that is the point
    onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    nothing_left = (
        "options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL"
    )
    return {
        "onnxruntime cold": Contestant(ONNX_RUNTIME.format(file="model.onnx", options="")),
        "onnxruntime warm": Contestant(
            ONNX_RUNTIME.format(file="rewritten.onnx", options=nothing_left)
        ),
    }


def _openvino(folder: Path) -> dict[str, Contestant]:
    import openvino

    shape = np.load(folder / "nchw.npy").shape
    network = openvino.Core().read_model(folder / "model.onnx")
    network.reshape(list(shape))
    openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
    return {
        "openvino cold": Contestant(OPENVINO.format(options="")),
        "openvino warm": Contestant(OPENVINO.format(options='"CACHE_DIR": "openvino-cache"')),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="an architecture")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--engine", help="lushan's; its default if not given")
    arguments = parser.parse_args()
    options = {"engine": arguments.engine} if arguments.engine else {}
    with tempfile.TemporaryDirectory(prefix="lushan-cold-start-") as name:
        model = random_model(arguments.model, seed=0)
        if arguments.precision == "int8":
            model = quantize_on_noise(model, seed=0)
        contestants = prepare(model, Path(name), options)
        megabytes = (Path(name) / "model" / WEIGHTS).stat().st_size / 1e6
        for _ in range(arguments.runs + 1):
            for contestant in contestants.values():
                contestant.start(Path(name))
    expected = contestants["lushan warm"].score
    print(f"{arguments.model}, {arguments.precision}: our file of weights has {megabytes:.1f} MB")
    print(f"{'':<20}median s  least s  peak MB")
    for title, contestant in contestants.items():
        if abs(contestant.score / expected - 1) > TOLERANCES[arguments.precision]:
            raise SystemExit(f"{title} computes something else: {contestant.score}, not {expected}")
        seconds, megabytes = contestant.seconds[1:], contestant.megabytes[1:]
        print(
            f"{title:<20}{statistics.median(seconds):>8.3f} {min(seconds):>8.3f} "
            f"{statistics.median(megabytes):>8.0f}"
        )


if __name__ == "__main__":
    main()
