"""Quantised models in files: how they are told, and which network their weights are for.

A quantised model folder is one like any other, whose configuration has a ``quantization_config``
(the key that other programs use too). Its tensors are what the quantised graph of its network has
as parameters: int8 weights under the names of the float32 ones, with ``weight_scale`` and ``bias``
beside them, and ``scale`` and ``zero_point`` for each value that is bytes. That graph follows from
the network alone, so a tensor that is missing is found missing.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lushan import passes
from lushan.errors import ModelError
from lushan.graph.ir import Graph
from lushan.graph.verify import verify
from lushan.graph.weights import LazyWeights, shape_of
from lushan.models.config import ModelConfig
from lushan.models.resnet_graph import INPUT
from lushan.passes.quantize import quantize, quantized_values
from lushan.reference.quantization import QuantizationParameters

KEY = "quantization_config"
_QUANTIZER = "lushan"
_VERSION = 1  # of the names and meanings of the tensors


def quantization_config(**how: object) -> dict[str, object]:
    """Return what the configuration of a quantised model has more; ``how`` is for the reader."""
    return {KEY: {"quant_method": _QUANTIZER, "version": _VERSION, "bits": 8, **how}}


def is_quantized(config: ModelConfig) -> bool:
    """Return whether a model is quantised; raises ModelError where it is in another way."""
    how = config.extra.get(KEY)
    if how is None:
        return False
    known = {"quant_method": _QUANTIZER, "version": _VERSION, "bits": 8}
    if not isinstance(how, Mapping) or any(how.get(key) != known[key] for key in known):
        raise ModelError(
            "quantization_config is {value}; only models that lushan quantised can be read: "
            "quantise the float32 model again with lushan quantize",
            value=reprlib.repr(how),
        )
    return True


def quantized_graph(graph: Graph, tensors: Mapping[str, npt.NDArray[np.generic]]) -> Graph:
    """Return the quantised graph of a float32 ``graph``, whose weights ``tensors`` should be.

    Of the tensors only one shape is asked: whether the input is quantised per channel.
    """
    shapes = {v.name: tuple(size or 0 for size in v.type.shape) for v in graph.parameters}
    weights = LazyWeights(shapes, {name: _never(name) for name in shapes})
    number = np.zeros((), np.float32)
    plain, plain_weights = passes.apply(graph, weights)
    parameters = {name: QuantizationParameters(number, number) for name in quantized_values(plain)}
    channels = graph.inputs[0].type.shape[-1:]
    scale = f"{INPUT}.scale"
    if scale in tensors and shape_of(tensors, scale) == channels:
        array = np.zeros(shape_of(tensors, scale), np.float32)
        parameters[INPUT] = QuantizationParameters(array, array)
    rewritten, _ = quantize(plain, plain_weights, parameters)
    verify(rewritten)
    return rewritten


def _never(name: str) -> Callable[[], npt.NDArray[Any]]:
    """Return a stand-in for a weight whose numbers nobody may ask for."""

    def fail() -> npt.NDArray[Any]:
        raise AssertionError(name)

    return fail
