"""The service under load, beside LitServe and beside ``classify_many``, in turn.

Run: python benchmarks/serve_load.py --photos DIR [--rounds 3] [--seconds 4] [--connections 32]
     python benchmarks/serve_load.py --photos DIR --soak 600    # at twice what it can do, see below

Contestants, all with the network of ``recipes/resnet18-tiny-imagenet.json`` and random weights:

    lushan serve    as it comes
    litserve        ONNX Runtime, with the same largest batch and delay, in one worker; pictures are
                    decoded by lushan's own preprocessing in as many threads as there are cores
    classify_many   the same files in one process, without HTTP: the bound

The client is this process (``http_client``): one request per connection at a time, forms for both
services. Then come the latencies of lushan: one request after the other, and at half the
rate of before, sent by the clock whether answers are there or not, timed from when each was due:
evenly apart, as wrk2 and vegeta send them, and at random times, as from many people (a Poisson
process). Of random requests some always come together: with two cores that nothing else disturbs,
first come, first served, a simulation puts their p99 at four times one at a time.

``--soak`` sends twice as many requests per second as the service has just answered, and reports how
many got a 200, a 503, or nothing, and the service's memory along the way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from http_client import Client, percentile

import lushan
from lushan.models.checkpoint import from_parameters
from lushan.models.config import ModelConfig
from lushan.models.initialize import initial_weights
from lushan.models.model_folder import write_model_folder
from lushan.models.onnx_export import to_onnx
from lushan.models.resnet import ResNet
from lushan.models.resnet_graph import build
from lushan.models.zoo import load_model

RECIPE = Path(__file__).parents[1] / "recipes/resnet18-tiny-imagenet.json"
CLASSES = 200
BATCH, DELAY_MS = 16, 2
START_SECONDS = 120
LITSERVE = """
import sys
from concurrent.futures import ThreadPoolExecutor

import litserve
import numpy
import onnxruntime

from lushan.cores import usable_cores
from lushan.image.decode import decode
from lushan.models.zoo import load_model

class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        self.session = onnxruntime.InferenceSession(
            sys.argv[1] + "/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.preprocessing = load_model(sys.argv[1]).preprocessing
        self.pool = ThreadPoolExecutor(usable_cores())

    def decode_request(self, request):
        return request["file"].file.read()

    def prepare(self, data):
        return self.preprocessing(decode(data)).transpose(2, 0, 1)

    def batch(self, inputs):
        return numpy.stack(list(self.pool.map(self.prepare, inputs)))

    def predict(self, batch):
        return self.session.run(None, {"input": batch})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, scores):
        exponents = numpy.exp(scores - scores.max())
        best = numpy.argsort(-scores)[:5]
        return {"predictions": [
            {"index": int(i), "probability": float(exponents[i] / exponents.sum())} for i in best
        ]}

if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=int(sys.argv[3]), batch_timeout=float(sys.argv[4]) / 1e3),
        accelerator="cpu", workers_per_device=1,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False,
               log_level="error", num_api_servers=1)
"""


def write_model(folder: Path) -> None:
    recipe = json.loads(RECIPE.read_text(encoding="utf-8"))
    network = ResNet.from_dict({**recipe["model_args"], "classes": CLASSES})
    config = ModelConfig(
        "resnet",
        CLASSES,
        model_args=network.to_dict(),
        pretrained_cfg={**recipe["preprocessing"], "input_size": [3, 64, 64]},
    )
    weights = initial_weights(build(network), seed=0)
    write_model_folder(folder, config, from_parameters(weights))
    if importlib.util.find_spec("onnx"):
        model = load_model(folder)
        onnx = to_onnx(model.graph, model.weights)
        (folder / "model.onnx").write_bytes(onnx.SerializeToString())


@contextlib.contextmanager
def running(command: list[str], port: int, health: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the block ends, from when it answers."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as process:
        try:
            for _ in range(START_SECONDS * 5):
                if asyncio.run(_healthy(port, health)):
                    break
                time.sleep(0.2)
            else:
                raise SystemExit(f"{command[0]} does not start")
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):  # litserve leaves processes behind
                os.killpg(process.pid, signal.SIGKILL)


async def _healthy(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def classify_many(recognizer: lushan.Recognizer, photos: Sequence[Path], seconds: float) -> float:
    end = time.perf_counter() + seconds

    def endless() -> Iterator[Path]:
        for photo in itertools.cycle(photos):
            if time.perf_counter() >= end:
                return
            yield photo

    start = time.perf_counter()
    done = sum(1 for _ in recognizer.classify_many(endless()))
    return done / (time.perf_counter() - start)


def compare(arguments: argparse.Namespace, folder: Path, photos: Sequence[Path]) -> None:
    ours = Client(arguments.port, "/v1/classify", photos)
    theirs = Client(arguments.port + 1, "/predict", photos) if arguments.litserve else None
    rates: dict[str, list[float]] = {"lushan serve": [], "litserve": [], "classify_many": []}
    with lushan.load(folder) as recognizer:
        classify_many(recognizer, photos, 1)
        ours.flood(arguments.connections, 1)
        if theirs:
            theirs.flood(arguments.connections, 2)
        for _ in range(arguments.rounds):
            for name, client in (("lushan serve", ours), ("litserve", theirs)):
                if client is not None:
                    rate = client.flood(arguments.connections, arguments.seconds)
                    rates[name].append(rate)
                    assert set(client.answers) == {200}, (name, client.answers)
            rates["classify_many"].append(classify_many(recognizer, photos, arguments.seconds))
    middle = {name: statistics.median(values) for name, values in rates.items() if values}
    for name, value in middle.items():
        print(f"{name:<16}{value:>8.1f} pictures/s", [round(rate, 1) for rate in rates[name]])
    print(f"of classify_many  {middle['lushan serve'] / middle['classify_many']:.2f}")
    if "litserve" in middle:
        print(f"of litserve       {middle['lushan serve'] / middle['litserve']:.2f}")
    ours.flood(1, arguments.seconds)
    single = statistics.median(ours.latencies)
    print(
        f"one at a time     {1e3 * single:.1f} ms, p99 {1e3 * percentile(ours.latencies, 99):.1f}"
    )
    half = middle["lushan serve"] / 2
    for pace in ("evenly", "randomly"):
        ours.by_the_clock(
            half, 2 * arguments.seconds, arguments.connections, evenly=pace == "evenly"
        )
        p50, p99 = (percentile(ours.latencies, percent) for percent in (50, 99))
        print(
            f"at {half:.0f}/s, {pace}: median {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms = "
            f"{p99 / single:.1f} × one at a time; {dict(ours.answers)}"
        )


def soak(arguments: argparse.Namespace, pid: int, photos: Sequence[Path]) -> None:
    client = Client(arguments.port, "/v1/classify", photos)
    rate = client.flood(arguments.connections, 3)
    print(f"{rate:.0f}/s at its best; now {2 * rate:.0f}/s for {arguments.soak} s")
    total: Counter[int] = Counter()
    part = min(15.0, arguments.soak)
    for _ in range(max(1, round(arguments.soak / part))):
        client.by_the_clock(2 * rate, part, 400)
        total += client.answers
        print(f"{dict(client.answers)}, {megabytes(pid):.0f} MB", flush=True)
    print(f"in all {dict(total)}; 0 stands for no answer")
    if set(total) - {200, 503}:
        sys.exit("FAILED: other answers than 200 and 503")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--port", type=int, default=8321)
    parser.add_argument("--soak", type=float, default=0, help="seconds at twice its capacity")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # services end with us
    arguments.litserve = bool(importlib.util.find_spec("litserve")) and not arguments.soak
    photos = sorted(path for path in arguments.photos.iterdir() if path.is_file())
    with tempfile.TemporaryDirectory(prefix="lushan-serve-load-") as name:
        folder = Path(name)
        write_model(folder)
        command = [sys.executable, "-c", "from lushan.cli import main; main()", "serve"]
        command += ["--model", f"default={folder}"]
        command += ["--max-batch", str(BATCH), "--max-delay-ms", str(DELAY_MS)]
        command += ["--port", str(arguments.port)]
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(running(command, arguments.port, "/v2/health/ready"))
            if arguments.soak:
                soak(arguments, ours.pid, photos)
                return
            if arguments.litserve:
                (folder / "service.py").write_text(LITSERVE, encoding="utf-8")
                command = [sys.executable, str(folder / "service.py"), name]
                command += [str(arguments.port + 1), str(BATCH), str(DELAY_MS)]
                stack.enter_context(running(command, arguments.port + 1, "/health"))
            compare(arguments, folder, photos)


if __name__ == "__main__":
    main()
