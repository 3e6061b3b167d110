"""A training that is killed again and again must end like one that never was.

Run: python benchmarks/killed_training.py [--kills 20] [--seed 0]
A small network is trained on noisy colours by ``lushan train``, once without a break, and once
killed (kill -9) after random times, up to a third of the whole, and resumed each time. It
fails, with exit status 1, when a resumed run does not start, a checkpoint cannot be read, or the
weights, velocities or metrics of the two differ in a bit. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lushan.models.safetensors_file import read_safetensors
from lushan.train.metrics import read_metrics

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.training_data import SETTINGS as A_FEW_SECONDS
from support.training_data import write_pictures

SETTINGS = {**A_FEW_SECONDS, "epochs": 100, "ema": 0.99}
CHECKPOINT = "last.safetensors"


def start(folder: Path, run: Path) -> subprocess.Popen[bytes]:
    config = folder / "settings.json"
    arguments = ["train", folder / "pictures", "--config", config, "-o", run, "--resume"]
    code = "from lushan.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def results(run: Path) -> tuple[object, ...]:
    """Return all that must not depend on kills: weights, velocities, numbers of the epochs."""
    files = [read_safetensors(run / name) for name in (CHECKPOINT, "model.safetensors")]
    bits = [{name: array.tobytes() for name, array in tensors.items()} for tensors in files]
    numbers = ("step", "train_loss", "train_accuracy", "val_loss", "val_top1", "is_best")
    records = [
        [record.get(name) for name in numbers] for record in read_metrics(run / "metrics.jsonl")
    ]
    return bits, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures", 12)
        (folder / "settings.json").write_text(json.dumps(SETTINGS))
        whole, parts = folder / "whole", folder / "parts"
        began = time.perf_counter()
        if start(folder, whole).wait():
            sys.exit("the unbroken run failed")
        length = time.perf_counter() - began
        kills = 0
        while kills < options.kills:
            process = start(folder, parts)
            time.sleep(moments.uniform(0, length / 3))
            process.kill()
            _, message = process.communicate()
            if process.returncode == 0:  # to its end: begin again, there are kills left
                print("done before it was killed")
                if results(parts) != results(whole):
                    sys.exit("the two runs differ")
                parts = folder / f"parts{kills}"
                continue
            if process.returncode != -signal.SIGKILL:
                sys.exit(f"a resumed run failed: {message.decode()}")
            kills += 1
            if (parts / CHECKPOINT).exists():
                read_safetensors(parts / CHECKPOINT)
            records = read_metrics(parts / "metrics.jsonl")
            done = sum(record["kind"] == "epoch" for record in records)
            print(f"killed after {done} of {SETTINGS['epochs']} epochs")
        if start(folder, parts).wait():
            sys.exit("the last resumed run failed")
        if results(parts) != results(whole):
            sys.exit("the two runs differ")
        print(f"{kills} kills: every bit the same as unbroken ({length:.1f} s)")


if __name__ == "__main__":
    main()
