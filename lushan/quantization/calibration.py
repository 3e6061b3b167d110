"""Calibration: run the float network on pictures and observe the ranges of its values.

The network runs as the engines run it, folded and fused, and every value that will be bytes is
looked at on the way: some pictures at a time, counted into histograms and forgotten, so memory does
not grow with the number of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lushan import passes
from lushan.engines import DEFAULT_ENGINE, ENGINES
from lushan.errors import LushanError, ModelError, UsageError
from lushan.graph.verify import infer_types
from lushan.image.decode import PictureSource, decode
from lushan.image.preprocess import Preprocessing
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import Model
from lushan.passes.quantize import quantized_values
from lushan.quantization.histogram import Histogram
from lushan.quantization.ranges import METHODS
from lushan.reference.quantization import (
    HIGHEST,
    QuantizationParameters,
    range_parameters,
)

LEAST_PICTURES = 2
_BATCH_BYTES = 64 * 2**20  # of all values that are looked at


@dataclass
class Calibration:
    """What was observed: a histogram for each value, on how many pictures.

    ``errors`` are the pictures that could not be read, as (source, reason).
    """

    histograms: dict[str, Histogram]
    pictures: int = 0
    errors: list[tuple[PictureSource, LushanError]] = field(default_factory=list)


def calibrate(
    model: Model,
    sources: Iterable[PictureSource],
    *,
    threads: int | None = None,
    engine: str = DEFAULT_ENGINE,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Run ``model`` on every picture of ``sources`` and return what its values were.

    Pictures that cannot be read are left out and named in the result. ``progress`` is told how
    many pictures are done. Raises UsageError for fewer than two readable pictures, and ModelError
    for a value that is not a finite number.
    """
    if model.precision != "float32":
        raise UsageError("{model}: the model is quantised already", model=model.name)
    names = quantized_values(passes.apply(model.graph, model.weights)[0])
    found = Calibration({name: Histogram() for name in names})
    program = ENGINES[engine](model.graph, model.weights, keep=names, threads=threads)
    try:
        for batch in batches(model, sources, names, found.errors):
            with np.errstate(over="ignore", invalid="ignore"):
                values = program({INPUT: batch})
            for name, histogram in found.histograms.items():
                if not histogram.add(values[name]):
                    raise ModelError(
                        "{model}: its value {name} is not a finite number on the calibration "
                        "pictures: the weights are damaged, or not for this network",
                        model=model.name,
                        name=name,
                    )
            found.pictures += len(batch)
            progress(found.pictures + len(found.errors))
    finally:
        program.close()
    if found.pictures < LEAST_PICTURES:
        raise _too_few(found)
    return found


def _too_few(found: Calibration) -> UsageError:
    error = UsageError(
        "calibration needs at least {least} pictures that can be read, better 100 to 500; "
        "there are {count}",
        least=LEAST_PICTURES,
        count=found.pictures,
    )
    if not found.errors:
        return error
    return UsageError(
        "{error}; {failed} cannot be read, the first: {problem}",
        error=error,
        failed=len(found.errors),
        problem=found.errors[0][1],
    )


def batches(
    model: Model,
    sources: Iterable[PictureSource],
    kept: Iterable[str],
    errors: list[tuple[PictureSource, LushanError]],
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield preprocessed pictures, as many at a time as the values in ``kept`` leave room for.

    A picture that cannot be read goes to ``errors`` instead.
    """
    size = _batch_size(model, kept)
    batch: list[npt.NDArray[np.float32]] = []
    for source in sources:
        try:
            batch.append(model.preprocessing(decode(source)))
        except LushanError as error:
            errors.append((source, error))
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _batch_size(model: Model, kept: Iterable[str]) -> int:
    shape = (1, model.preprocessing.height, model.preprocessing.width, 3)
    types = infer_types(model.graph, {INPUT: shape})
    elements = sum(math.prod(size or 1 for size in types[name].shape) for name in kept)
    return max(1, min(64, _BATCH_BYTES // (4 * elements)))


def choose_parameters(
    model: Model, found: Calibration, method: str
) -> dict[str, QuantizationParameters]:
    """Return what the bytes of each value shall stand for, by one of ``ranges.METHODS``.

    The network's input is given the pixels themselves wherever these have a byte for 0. Raises
    UsageError for an unknown method and for a value that is the same number everywhere.
    """
    if method not in METHODS:
        raise UsageError(
            "the method should be one of {known}; received {value!r}",
            known=", ".join(METHODS),
            value=method,
        )
    parameters: dict[str, QuantizationParameters] = {}
    for name, histogram in found.histograms.items():
        if histogram.low == histogram.high:
            raise UsageError(
                "{model}: its value {name} is {number} at every pixel of the {count} calibration "
                "pictures, which says nothing about its range: give other pictures, or mend the "
                "model if it is dead there",
                model=model.name,
                name=name,
                number=histogram.low,
                count=found.pictures,
            )
        parameters[name] = range_parameters(*METHODS[method](histogram))
    pixels = pixel_parameters(model.preprocessing)
    return parameters if pixels is None else {**parameters, INPUT: pixels}


def pixel_parameters(preprocessing: Preprocessing) -> QuantizationParameters | None:
    """Return the parameters that make a normalised picture its pixels, float32 [3] each.

    None where padding, which is 0 after normalising, has no byte: a mean outside 0 to 1.
    """
    mean, std = (np.asarray(x, np.float64) for x in (preprocessing.mean, preprocessing.std))
    scale, zero_point = (
        (1 / (HIGHEST * std)).astype(np.float32),
        (HIGHEST * mean).astype(np.float32),
    )
    fits: Any = (zero_point >= 0) & (zero_point <= HIGHEST) & np.isfinite(scale)
    return QuantizationParameters(scale, zero_point) if fits.all() else None
