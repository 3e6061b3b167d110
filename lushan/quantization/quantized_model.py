"""From a model and what its bytes shall stand for to the quantised model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lushan import passes
from lushan.models.quantized import quantization_config
from lushan.models.zoo import Model
from lushan.quantization.calibration import (
    LEAST_PICTURES,
    Calibration,
    calibrate,
    choose_parameters,
)


def quantize_model(model: Model, found: Calibration, method: str) -> Model:
    """Return ``model`` on bytes, for the ranges that were ``found``, chosen by ``method``.

    It is used like any other; its weights are quantised when they are asked for. Raises as
    ``choose_parameters`` does.
    """
    parameters = choose_parameters(model, found, method)
    graph, weights = passes.apply_and_quantize(model.graph, model.weights, parameters)
    how: Mapping[str, object] = quantization_config(method=method, pictures=found.pictures)
    config = replace(model.config, extra={**model.config.extra, **how})
    return replace(model, config=config, graph=graph, weights=weights)


def quantize_on_noise(model: Model, *, seed: int, threads: int | None = None) -> Model:
    """Return ``model`` on bytes, for ranges that random pictures have: for benchmarks.

    It takes as long as one that was calibrated with care.
    """
    random = np.random.default_rng(seed)
    size = (model.preprocessing.height, model.preprocessing.width, 3)
    pictures = [random.integers(0, 256, size, dtype=np.uint8) for _ in range(LEAST_PICTURES)]
    return quantize_model(model, calibrate(model, pictures, threads=threads), "minmax")
