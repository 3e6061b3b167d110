"""The check of a data set before training, and the store of decoded pictures that it fills.

Every picture is decoded once: one that cannot be read is named, and so are copies of the same
picture, told by the hash of their pixels. Nothing on disk is changed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lushan.errors import PictureError
from lushan.image.decode import decode
from lushan.image.sources import source_name
from lushan.train.dataset import Sample

Pixels = npt.NDArray[np.uint8]
_CHUNK = 64  # pictures a thread takes at a time: small ones take a tenth of a millisecond
# Python's lock goes back and forth between threads that decode small pictures: two are slower
# than one. From about this size on, decoding in Pillow, without the lock, is most of the time.
_SMALL_BYTES = 20_000


class PictureStore:
    """Decoded pictures by path, kept in memory as long as there is room; threads may share it.

    ``limit`` is in bytes of pixels. What comes first is kept: every picture is asked for equally
    often, so which of them are kept makes no difference.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: dict[Path, Pixels] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many pictures are kept."""
        return len(self._kept)

    def __call__(self, path: Path) -> Pixels:
        """Return the pixels of the picture at ``path``, uint8 [H, W, 3], not to be written to.

        Raises PictureError where it cannot be read.
        """
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        pixels = decode(path).pixels
        pixels.flags.writeable = False
        with self._lock:
            if path not in self._kept and self._size + pixels.nbytes <= self._limit:
                self._kept[path] = pixels
                self._size += pixels.nbytes
        return pixels


@dataclass(frozen=True)
class PictureCheck:
    """What a check found. Lists are in the order of the samples.

    ``hashes`` has one per readable sample; ``unreadable`` are (source, why); ``duplicates`` are the
    groups of samples that show the same pixels.
    """

    readable: tuple[Sample, ...]
    hashes: tuple[bytes, ...]
    unreadable: tuple[tuple[str, PictureError], ...]
    duplicates: tuple[tuple[Sample, ...], ...]

    def fingerprint(self, root: Path) -> str:
        """Return what tells these pictures, labels and names below ``root`` from any others."""
        whole = hashlib.blake2b(digest_size=16)
        for sample, pixels in zip(self.readable, self.hashes, strict=True):
            name = relative_name(sample.path, root).encode()
            whole.update(b"%d %d " % (len(name), sample.label) + name + pixels)
        return whole.hexdigest()


def check_pictures(
    samples: Sequence[Sample],
    store: PictureStore,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PictureCheck:
    """Decode every picture once, through ``store``, and say what is wrong with which."""

    def look(chunk: Sequence[Sample]) -> list[bytes | PictureError]:
        return [_hash(store, sample.path) for sample in chunk]

    chunks = [samples[start : start + _CHUNK] for start in range(0, len(samples), _CHUNK)]
    found: list[bytes | PictureError] = []
    with ThreadPoolExecutor(threads if _are_large(samples) else 1) as pool:
        try:
            for results in pool.map(look, chunks):
                found += results
                progress(len(found), len(samples))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    readable, hashes, unreadable = [], [], []
    groups: dict[bytes, list[Sample]] = {}
    for sample, result in zip(samples, found, strict=True):
        if isinstance(result, PictureError):
            unreadable.append((source_name(sample.path), result))
            continue
        readable.append(sample)
        hashes.append(result)
        groups.setdefault(result, []).append(sample)
    duplicates = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    return PictureCheck(tuple(readable), tuple(hashes), tuple(unreadable), duplicates)


def relative_name(path: Path, root: Path) -> str:
    """Return the name of a picture below ``root`` for records: the same on every system."""
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return source_name(inside.as_posix())


def _hash(store: PictureStore, path: Path) -> bytes | PictureError:
    try:
        pixels = store(path)
    except PictureError as error:
        return error
    whole = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    whole.update(pixels.data)
    return whole.digest()


def _are_large(samples: Sequence[Sample]) -> bool:
    """Return whether the files are so large that decoding them on several threads is faster."""
    some = samples[:: max(1, len(samples) // 100)]
    sizes = [sample.path.stat().st_size for sample in some if sample.path.is_file()]
    return sum(sizes) > _SMALL_BYTES * len(sizes)
