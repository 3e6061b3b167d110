"""How many frames a second ``lushan watch`` answers, beside what engine and decoder reach alone.

Run: python benchmarks/watch.py PICTURES [--model M] [--threads N] [--frames 600] [--minutes 0]

PICTURES is a folder. They are made into a 1080p H.264 clip, which is watched by a process of its
own; printed are frames a second, the most memory that the process held, and, measured right after
it, the engine alone on one picture at a time and the decoder alone. Decoding and recognising
share the cores, so both together can at best reach 1 / (1 / engine + 1 / decoder). With
--minutes, NV12 frames are then fed through a pipe, over and over, for so long, and the memory is
printed at every tenth.
It fails, with exit status 1, when

* the process held more than 250 MiB;
* in the last quarter of the time it held 8 MiB more than in the quarter before.

Linux only (/proc). Needs the extra ``video``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

import lushan
from lushan.image.frame import rgb_to_frame
from lushan.stream.video import VideoSource

WIDTH, HEIGHT, RATE = 1920, 1080, 25
EACH = 10  # frames of one picture before the next
MOST_BYTES = 250 * 2**20
GROWTH_BYTES = 8 * 2**20
COMMAND = (sys.executable, "-c", "from lushan.cli import main; main()", "watch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=0.0)
    options = parser.parse_args()
    settings = ("--model", options.model, "--threads", str(options.threads))
    screens = [_screen(path) for path in sorted(options.pictures.iterdir())]
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        _write(clip, screens, options.frames)
        subprocess.run((*COMMAND, str(clip), *settings), capture_output=True, check=True)  # caches
        rate, peak = _watch(clip, settings)
        engine, decoder = _engine(options.model, options.threads), _decoder(clip, options.threads)
    together = 1 / (1 / engine + 1 / decoder)
    print(f"lushan watch {rate:7.1f} frames/s  peak memory {peak / 2**20:.0f} MiB")
    print(f"engine alone {engine:7.1f} pictures/s, {options.threads} threads, one at a time")
    print(
        f"decoder alone {decoder:6.1f} frames/s; both in turn {together:.1f}: watch has "
        f"{100 * rate / together:.0f} % of that"
    )
    if peak > MOST_BYTES:
        failures.append(f"{peak / 2**20:.0f} MiB held, more than {MOST_BYTES >> 20}")
    if options.minutes:
        failures += _soak([bytes(rgb_to_frame(one, "NV12")) for one in screens], settings, options)
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(bool(failures))


def _screen(path: Path) -> np.ndarray:
    """Return a picture, whole, on a screen: uint8 [HEIGHT, WIDTH, 3]."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.pad(image.convert("RGB"), (WIDTH, HEIGHT)))


def _write(path: Path, screens: list[np.ndarray], frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for index in range(frames):
            # Moved a little from frame to frame, as in the hand: a still would be free to decode.
            picture = np.roll(screens[index // EACH % len(screens)], 3 * (index % EACH), axis=1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _watch(clip: Path, settings: tuple[str, ...]) -> tuple[float, int]:
    """Return frames a second, as the process says, and the most bytes it held."""
    process = subprocess.Popen(
        (*COMMAND, str(clip), *settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = 0
    for line in process.stdout:
        peak = max(peak, _memory(process.pid, "VmHWM"))
        json.loads(line)
    told = process.stderr.read()
    process.wait()
    return float(re.search(r"([\d.]+) frames a second", told)[1]), peak


def _engine(model: str, threads: int) -> float:
    with lushan.load(model, threads=threads) as recognizer:
        shape = recognizer.model.preprocessing
        picture = np.zeros((1, shape.height, shape.width, 3), np.float32)
        recognizer.scores(picture)
        runs, started = 0, time.perf_counter()
        while time.perf_counter() - started < 2:
            recognizer.scores(picture)
            runs += 1
        return runs / (time.perf_counter() - started)


def _decoder(clip: Path, threads: int) -> float:
    started = time.perf_counter()
    frames = sum(1 for _ in VideoSource(str(clip), threads=threads).frames())
    return frames / (time.perf_counter() - started)


def _soak(frames: list[bytes], settings: tuple[str, ...], options: argparse.Namespace) -> list[str]:
    """Feed frames through a pipe; return what is not as it should be."""
    process = subprocess.Popen(
        (*COMMAND, "-", "--raw", "nv12", "--size", f"{WIDTH}x{HEIGHT}", *settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    held: list[int] = []
    started = time.monotonic()
    seconds = 60 * options.minutes
    count = 0
    while (elapsed := time.monotonic() - started) < seconds:
        process.stdin.write(frames[count % len(frames)])
        count += 1
        if elapsed >= len(held) * seconds / 40:
            held.append(_memory(process.pid, "VmRSS"))
            if len(held) % 4 == 0:
                print(f"{elapsed / 60:6.1f} min  {count:>8} frames  {held[-1] / 2**20:6.1f} MiB")
    peak = _memory(process.pid, "VmHWM")
    process.stdin.close()
    print(process.stderr.read().decode().strip(), f"peak {peak / 2**20:.0f} MiB")
    process.wait()
    third, last = max(held[20:30]), max(held[30:])
    if last > third + GROWTH_BYTES:
        return [f"memory grew from {third / 2**20:.1f} to {last / 2**20:.1f} MiB"]
    return [] if peak <= MOST_BYTES else [f"{peak / 2**20:.0f} MiB held while frames were fed"]


def _memory(process: int, name: str) -> int:
    """Return a figure of memory of a process, in bytes; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


if __name__ == "__main__":
    main()
