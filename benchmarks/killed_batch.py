"""A batch whose workers and drivers are killed again and again: every picture exactly once.

Run: python benchmarks/killed_batch.py [--pictures 4000] [--broken 1000] [--kills 20] [--seed 0]
     python benchmarks/killed_batch.py --folder DIR …
Pictures are drawn (or those of DIR linked), broken files are put among them, and ``lushan batch``
is killed (kill -9): its workers at random moments, and from time to time the driver, after which
it is resumed. It fails, with exit status 1, when a run cannot be resumed, a picture is missing
or there twice, a broken file has no error or a sound one has, an answer differs in a bit from
``classify_many``'s, or a worker outlives its driver. Linux only.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import lushan
from lushan.image.files import find_pictures

PART = 100
PATIENCE = (
    200  # looks, a tenth of a second apart, until Ray's processes see that the driver is gone
)


def write_broken(path: Path, sound: bytes, number: int) -> None:
    """Write one of five kinds of broken file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = (b"", b"not a picture", sound[: len(sound) // 3], sound[::-1], bytes(1000))
    path.write_bytes(kinds[number % len(kinds)])


def prepare(folder: Path, options: argparse.Namespace) -> set[str]:
    """Fill ``folder`` with pictures and broken files; return the paths of the broken ones."""
    generator = np.random.default_rng(options.seed)
    if options.folder:
        found = list(find_pictures(options.folder))
        sound = found[0].read_bytes()
        for number, path in enumerate(found):
            link = folder / f"{number % 50:02}" / f"{number:06}{path.suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path.resolve())
    else:
        for number in range(options.pictures):
            path = folder / f"{number % 50:02}" / f"{number:06}.jpg"
            path.parent.mkdir(exist_ok=True)
            pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(path)
            sound = path.read_bytes()
    broken = [
        folder / f"{number % 50:02}" / f"b{number:06}.jpg" for number in range(options.broken)
    ]
    for number, path in enumerate(broken):
        write_broken(path, sound, number)
    return set(map(str, broken))


def start(folder: Path, output: Path, model: str) -> subprocess.Popen[str]:
    options = ["--part", str(PART), "--workers", "2", "--model", model, "--resume"]
    code = "from lushan.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "batch", str(folder), "-o", str(output), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below ``pid``, and what they call themselves."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            names[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:  # gone meanwhile
            continue
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {child: names.get(child, "") for child in below - {pid}}


def kill(pid: int) -> None:
    try:
        Path(f"/proc/{pid}").stat()
        subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
    except OSError:
        pass


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end(processes: dict[int, str]) -> None:
    """Wait until Ray's processes are gone; its two idle agents take a minute, and may."""
    busy = {pid: name for pid, name in processes.items() if not name.endswith("Agent")}
    for _ in range(PATIENCE):
        left = [pid for pid in busy if alive(pid)]
        if not left:
            return
        time.sleep(0.1)
    for pid in left:
        kill(pid)
    sys.exit(f"{len(left)} processes outlive their driver: {busy[left[0]]}")


def disturb(
    process: subprocess.Popen[str], moments: random.Random, length: float
) -> tuple[int, bool]:
    """Kill workers until it is the driver's turn; return how many, and whether it was killed.

    ``length`` is the seconds of a run that nobody disturbs.
    """
    end = time.monotonic() + length * moments.uniform(0.1, 1.5)
    workers = 0
    while process.poll() is None:
        time.sleep(length * moments.uniform(0.01, 0.3))
        below = descendants(process.pid)
        if time.monotonic() > end:
            process.kill()
            process.wait()
            wait_for_the_end(below)
            return workers, True
        at_work = [pid for pid, name in below.items() if name.startswith("ray::Worker")]
        if at_work:
            kill(moments.choice(at_work))
            workers += 1
    return workers, False


def finish(process: subprocess.Popen[str], options: argparse.Namespace) -> None:
    """Wait for a run to end by itself. Exits where it says that it failed."""
    _, message = process.communicate()
    if process.returncode != (1 if options.broken else 0):
        sys.exit(f"a run failed: {message}")


def check(folder: Path, output: Path, broken: set[str], model: str) -> None:
    """Compare what is in ``output`` with what one process says. Exits where they differ."""
    paths = list(map(str, find_pictures(folder)))
    rows = pq.read_table(output).to_pylist()
    counts = Counter(row["path"] for row in rows)
    if counts != Counter(paths):
        missing, more = set(paths) - set(counts), [p for p, n in counts.items() if n > 1]
        sys.exit(f"{len(missing)} pictures missing, {len(more)} more than once")
    by_path = {row["path"]: row for row in rows}
    failed = {path for path, row in by_path.items() if row["error"]}
    if failed != broken:
        sys.exit(f"{len(failed)} error rows, {len(broken)} broken files")
    with lushan.load(model, threads=2) as recognizer:
        for path, answer in zip(paths, recognizer.classify_many(paths), strict=True):
            row = by_path[path]
            if isinstance(answer, lushan.LushanError):
                same = row["error"] == str(answer) and row["predictions"] is None
            else:
                same = {key: row[key] for key in ("predictions", "input")} == answer.to_dict()
            if not same:
                sys.exit(f"{path}: another answer than classify_many's")
    print(f"{len(paths)} pictures, each once; {len(failed)} error rows; all answers the same bits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="Pictures to use instead of drawn ones.")
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--broken", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "pictures"), Path(name, "answers")
        folder.mkdir()
        broken = prepare(folder, options)
        began = time.monotonic()
        finish(start(folder, output, options.model), options)
        length = time.monotonic() - began
        check(folder, output, broken, options.model)
        output = Path(name, "answers0")
        workers = drivers = 0
        while workers + drivers < options.kills:
            process = start(folder, output, options.model)
            killed, driver = disturb(process, moments, length)
            workers, drivers = workers + killed, drivers + driver
            done = len(list(output.glob("part-*")))
            print(f"{workers} workers and {drivers} drivers killed, {done} parts done", flush=True)
            if not driver:
                finish(process, options)
                check(folder, output, broken, options.model)
                output = Path(name, f"answers{workers + drivers}")  # there are kills left
        finish(start(folder, output, options.model), options)
        check(folder, output, broken, options.model)
        print(f"{workers} workers and {drivers} drivers killed")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
