"""How near a quantised network is to the float32 one it was made from, value by value.

Both run in full on the same pictures, so what a layer shows includes the errors of those before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lushan.engines import DEFAULT_ENGINE, ENGINES
from lushan.graph.executor import Array
from lushan.image.decode import PictureSource
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import Model
from lushan.passes.quantize import byte_parameters
from lushan.quantization.calibration import batches
from lushan.reference.quantization import HIGHEST, dequantize


@dataclass
class ValueComparison:
    """One value of both networks.

    ``scale`` and ``zero_point`` say what its bytes stand for, None where it stays float32.
    ``clipped`` is the part of its bytes at the ends, 0 and 255, leaving out a 0 that stands for 0.
    """

    name: str
    scale: float | None = None
    zero_point: float | None = None
    signal: float = 0.0  # sums of squares, of the value and of the error
    noise: float = 0.0
    at_the_ends: int = 0
    elements: int = 0

    @property
    def signal_to_noise(self) -> float:
        """The power of the value over that of the error, in dB; infinite without an error."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def clipped(self) -> float:
        """The part of the bytes that lie at an end of the range."""
        return self.at_the_ends / max(1, self.elements)

    def add(self, exact: Array, other: Array) -> None:
        """Count the value of some pictures; ``other`` is bytes or float32."""
        if other.dtype == np.uint8:
            low_end = (other == 0) if self.zero_point else np.zeros((), bool)
            self.at_the_ends += int(np.count_nonzero(low_end | (other == HIGHEST)))
            self.elements += other.size
            numbers = (np.asarray(n, np.float32) for n in (self.scale, self.zero_point))
            other = dequantize(other, *numbers)
        self.signal += float(np.square(exact, dtype=np.float64).sum())
        self.noise += float(np.square(exact.astype(np.float64) - other).sum())


@dataclass(frozen=True)
class Comparison:
    """Two networks on ``pictures`` pictures: the values that are bytes, in order, then the scores.

    ``same_top1`` is on how many pictures both put the same class first.
    """

    pictures: int
    values: tuple[ValueComparison, ...]
    same_top1: int

    @property
    def scores(self) -> ValueComparison:
        """The scores, which are the last of the values."""
        return self.values[-1]


def compare(
    model: Model,
    quantized: Model,
    sources: Iterable[PictureSource],
    *,
    threads: int | None = None,
    engine: str = DEFAULT_ENGINE,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Run ``model`` and what was ``quantized`` from it on the pictures that can be read.

    ``progress`` is told how many are done.
    """
    kept = [value.name for value in _compared(model, quantized).values()]
    pictures = batches(model, sources, kept, [])
    return compare_batches(
        model, quantized, pictures, threads=threads, engine=engine, progress=progress
    )


def compare_batches(
    model: Model,
    quantized: Model,
    pictures: Iterable[Array],
    *,
    threads: int | None = None,
    engine: str = DEFAULT_ENGINE,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Do the same on batches of preprocessed pictures, float32 [N, H, W, 3]."""
    values = _compared(model, quantized)
    kept = [value.name for value in values.values()]
    programs = [
        ENGINES[engine](model.graph, model.weights, keep=kept, threads=threads),
        ENGINES[engine](quantized.graph, quantized.weights, keep=list(values), threads=threads),
    ]
    scores = kept[-1]
    count = same = 0
    try:
        for batch in pictures:
            exact, ours = (program({INPUT: batch}) for program in programs)
            for name, value in values.items():
                value.add(exact[value.name], ours[name])
            count += len(batch)
            same += int((exact[scores].argmax(axis=1) == ours[scores].argmax(axis=1)).sum())
            progress(count)
    finally:
        for program in programs:
            program.close()
    return Comparison(count, tuple(values.values()), same)


def _compared(model: Model, quantized: Model) -> dict[str, ValueComparison]:
    """Return what is compared, by its name in ``quantized``: its bytes in order, then the scores.

    The input is left out: it is the same in both.
    """
    inputs = {value.name for value in model.graph.inputs}
    values = {}
    for name, parameters in byte_parameters(quantized.graph).items():
        plain = name.removesuffix(".quantized")
        if plain not in inputs:
            scale, zero_point = (float(quantized.weights[key]) for key in parameters)
            values[name] = ValueComparison(plain, scale, zero_point)
    scores = model.graph.outputs[0]
    values[scores] = ValueComparison(scores)
    return values
