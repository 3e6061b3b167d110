"""The engines by name. Each takes the graph as it was built and rewrites it as it likes.

An engine is imported when it is first used: the reference engine needs no compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lushan import passes
from lushan.graph.executor import Array, Engine, Program
from lushan.graph.ir import Graph

if TYPE_CHECKING:  # loaded with the first frame
    from lushan.image.decode import Picture
    from lushan.image.preprocess import Preprocessing
    from lushan.image.raw_frame import Frame

DEFAULT_ENGINE = "cpu"

# Makes the input [H, W, 3] of a network of a raw frame.
FrameReader: TypeAlias = "Callable[[Frame], Array]"
# … and of a decoded picture.
PictureReader: TypeAlias = "Callable[[Picture], Array]"


def _cpu(
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
) -> Program:
    """Compile to native code for this processor."""
    from lushan.cpu import executor

    return executor.compile(graph, weights, keep=keep, threads=threads)


def _reference(
    graph: Graph,
    weights: Mapping[str, Array],
    *,
    keep: Sequence[str] = (),
    threads: int | None = None,
) -> Program:
    """Interpret with NumPy, after the passes; NumPy's BLAS chooses its own threads."""
    from lushan.graph import interpret

    rewritten, new_weights = passes.apply(graph, weights, keep=keep)
    # NumPy's matrix products want a weight in one piece, once rather than in every run.
    held = {name: np.asarray(array, order="C") for name, array in new_weights.items()}
    return interpret.compile(rewritten, held, keep=keep, threads=threads)


ENGINES: Mapping[str, Engine] = {"cpu": _cpu, "reference": _reference}


def _cpu_frames(preprocessing: Preprocessing) -> FrameReader:
    """Read frames with a kernel compiled for this processor."""
    from lushan.cpu.frame_input import FrameReader

    return FrameReader(preprocessing)


def _reference_frames(preprocessing: Preprocessing) -> FrameReader:
    """Read frames with NumPy: the same bits."""
    from lushan.image.frame_input import frame_input

    return lambda frame: frame_input(frame, preprocessing)


FRAME_READERS: Mapping[str, Callable[[Preprocessing], FrameReader]] = {
    "cpu": _cpu_frames,
    "reference": _reference_frames,
}


def _cpu_pictures(preprocessing: Preprocessing) -> PictureReader:
    """Resize pictures with a kernel compiled for this processor."""
    from lushan.cpu.picture_input import PictureReader

    return PictureReader(preprocessing)


def _reference_pictures(preprocessing: Preprocessing) -> PictureReader:
    """Leave them to Pillow and NumPy: the same bits."""
    return preprocessing


PICTURE_READERS: Mapping[str, Callable[[Preprocessing], PictureReader]] = {
    "cpu": _cpu_pictures,
    "reference": _reference_pictures,
}
