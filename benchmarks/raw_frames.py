"""Raw frames to a network's input: the kernel beside converting the frame and resizing RGB.

Run: python benchmarks/raw_frames.py [--size 1920x1080] [--formats NV12 …] [--side 224] [--runs 60]
On one thread, in turn, from the bytes of a frame to float32 [side, side, 3], normalised:

    lushan    the kernel (bit for bit lushan.image.frame_input, which is checked first)
    opencv    cvtColor to RGB, cut to what the crop needs, resize (INTER_AREA), normalise
    linear    the same with INTER_LINEAR, which takes four pixels of all there are: fast, and not
              what the network was trained on; shown, and left out of the comparison
    pillow    planes of chroma resized up, merged, converted to RGB, resized with the network's
              filter to what the crop needs, normalised

The last column is the faster of opencv and pillow, over lushan. Every way finds the caches as the
others leave them, which is how a camera's frame is found. Then each way runs in a process of its
own, which tells by how much its peak memory grows over the frame itself.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lushan.image.color import BT601
from lushan.image.frame_input import frame_input
from lushan.image.preprocess import Preprocessing
from lushan.image.raw_frame import RAW_FORMATS, Frame, raw_frame_size

Way = Callable[[Frame], np.ndarray]


def lushan_way(preprocessing: Preprocessing) -> Way:
    from lushan.cpu.frame_input import FrameReader

    return FrameReader(preprocessing)


def _part(frame: Frame, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Return what the crop keeps, in pixels of the frame: left, top, right, bottom."""
    place = preprocessing.place((frame.width, frame.height))
    x, y = frame.width / place.resized[0], frame.height / place.resized[1]
    left, top, width, height = place.crop
    return left * x, top * y, (left + width) * x, (top + height) * y


def _normalizer(preprocessing: Preprocessing) -> Callable[[np.ndarray], np.ndarray]:
    """Return the fastest way in NumPy: one product and one sum."""
    factor = np.float32(1 / (255 * np.array(preprocessing.std)))
    shift = np.float32(-np.array(preprocessing.mean) / np.array(preprocessing.std))

    def normalize(pixels: np.ndarray) -> np.ndarray:
        values = pixels * factor
        values += shift
        return values

    return normalize


def opencv_way(preprocessing: Preprocessing, filter_name: str = "INTER_AREA") -> Way:
    import cv2

    interpolation = getattr(cv2, filter_name)

    cv2.setNumThreads(1)
    codes = {
        "I420": cv2.COLOR_YUV2RGB_I420,
        "NV12": cv2.COLOR_YUV2RGB_NV12,
        "YUYV": cv2.COLOR_YUV2RGB_YUYV,
        "UYVY": cv2.COLOR_YUV2RGB_UYVY,
        "GREY": cv2.COLOR_GRAY2RGB,
    }
    size = (preprocessing.width, preprocessing.height)
    normalize = _normalizer(preprocessing)

    def read(frame: Frame) -> np.ndarray:
        whole = frame.planes[0].base
        if frame.format == "RGB24":
            rgb = frame.planes[0].reshape(frame.height, frame.width, 3)
        elif frame.format in ("YUYV", "UYVY"):
            pairs = frame.planes[0].reshape(frame.height, frame.width, 2)
            rgb = cv2.cvtColor(pairs, codes[frame.format])
        elif frame.format == "GREY":
            rgb = cv2.cvtColor(frame.planes[0], codes["GREY"])
        else:
            assert whole is not None
            rows = np.asarray(whole).reshape(-1)[: frame.height * 3 // 2 * frame.width]
            rgb = cv2.cvtColor(rows.reshape(-1, frame.width), codes[frame.format])
        left, top, right, bottom = map(round, _part(frame, preprocessing))
        part = rgb[top:bottom, left:right]
        return normalize(cv2.resize(part, size, interpolation=interpolation))

    return read


def pillow_way(preprocessing: Preprocessing) -> Way:
    size = (preprocessing.width, preprocessing.height)
    resample = Image.Resampling[preprocessing.interpolation.upper()]
    normalize = _normalizer(preprocessing)

    def read(frame: Frame) -> np.ndarray:
        whole = (frame.width, frame.height)
        if frame.format == "RGB24":
            picture = Image.frombuffer("RGB", whole, frame.planes[0], "raw", "RGB", 0, 1)
        elif frame.format == "GREY":
            picture = Image.fromarray(frame.planes[0]).convert("RGB")
        else:
            planes = [np.ascontiguousarray(plane) for plane in frame._samples()]
            bands = [Image.fromarray(plane) for plane in planes]
            bands = [
                band if band.size == whole else band.resize(whole, Image.Resampling.BILINEAR)
                for band in bands
            ]
            picture = Image.merge("YCbCr", bands).convert("RGB")
        return normalize(
            np.asarray(picture.resize(size, resample, box=_part(frame, preprocessing)))
        )

    return read


WAYS = {
    "lushan": lushan_way,
    "opencv": opencv_way,
    "linear": partial(opencv_way, filter_name="INTER_LINEAR"),
    "pillow": pillow_way,
}
COMPARED = ("opencv", "pillow")
OPENCV_FORMATS = ("I420", "NV12", "YUYV", "UYVY", "GREY", "RGB24")


def a_frame(name: str, width: int, height: int) -> Frame:
    """Return a frame with something on it: waves, and some noise."""
    random = np.random.default_rng(1)
    size = raw_frame_size(name, width, height)
    waves = 128 + 60 * np.sin(np.arange(size) / 97) + random.normal(0, 8, size)
    return Frame.from_bytes(waves.astype(np.uint8), name, width, height, standard=BT601)


def compare(name: str, size: tuple[int, int], preprocessing: Preprocessing, runs: int) -> None:
    frame = a_frame(name, *size)
    ways = {
        way: make(preprocessing)
        for way, make in WAYS.items()
        if way not in ("opencv", "linear") or name in OPENCV_FORMATS
    }
    assert np.array_equal(ways["lushan"](frame), frame_input(frame, preprocessing))
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(runs + 3):
        for way, read in ways.items():
            start = time.perf_counter()
            read(frame)
            if turn >= 3:
                times[way].append(1e3 * (time.perf_counter() - start))
    medians = {way: statistics.median(values) for way, values in times.items()}
    best = min(value for way, value in medians.items() if way in COMPARED)
    shown = "  ".join(f"{way} {m:7.3f} (least {min(times[way]):.3f})" for way, m in medians.items())
    print(f"{name:<6} {shown}  ms   {best / medians['lushan']:5.1f} ×", flush=True)


def peak(way: str, name: str, size: tuple[int, int], preprocessing: Preprocessing) -> None:
    """Print by how many KiB the peak memory of this process grows, after a small frame."""
    read = WAYS[way](preprocessing)
    read(a_frame(name, 64, 48))
    data = bytearray(raw_frame_size(name, *size))  # by pieces: making it must not be the peak
    for start in range(0, len(data), 4096):
        data[start : start + 4096] = bytes(range(64, 192)) * 32
    frame = Frame.from_bytes(data, name, *size, standard=BT601)
    before = _peak_memory()
    for _ in range(3):
        read(frame)
    print(_peak_memory() - before)


def _peak_memory() -> int:
    """Return the peak of this program in KiB; getrusage would count its parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--formats", nargs="+", default=list(RAW_FORMATS))
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--crop-pct", type=float, default=0.875)
    parser.add_argument("--interpolation", default="bilinear")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    preprocessing = Preprocessing(
        height=arguments.side,
        width=arguments.side,
        crop_pct=arguments.crop_pct,
        interpolation=arguments.interpolation,
    )
    if arguments.peak_of:
        peak(arguments.peak_of, arguments.formats[0], (width, height), preprocessing)
        return
    print(f"{width}×{height} → {arguments.side}×{arguments.side}, {arguments.interpolation}")
    for name in arguments.formats:
        compare(name, (width, height), preprocessing, arguments.runs)
    for way in WAYS:
        name = "NV12"
        command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", way, "--formats", name]
        grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(
            f"{way:<8} memory beyond the {name} frame, at its peak: {int(grown) / 1024:.1f} MiB "
            f"(as RGB it is {3 * width * height / 2**20:.1f} MiB)"
        )


if __name__ == "__main__":
    main()
