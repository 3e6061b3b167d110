"""Quantised operators as loops over Python integers and single float32 numbers, and quantising."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lushan import passes
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.passes.quantize import quantized_values
from lushan.reference.quantization import range_parameters

F = np.float32


def draw_parameters(random: np.random.Generator, *, whole: bool = True) -> tuple[Any, Any]:
    """Return a scale and a zero point, float32 ()."""
    zero_point = random.integers(0, 256) if whole else random.uniform(0, 255)
    return np.asarray(F(np.exp(random.normal()))), np.asarray(F(zero_point))


class BytesGraph:
    """Builds a graph on bytes: its picture is float32 and quantised first."""

    def __init__(self, random: np.random.Generator, channels: int, *, whole: bool = True) -> None:
        self.random = random
        self.builder = GraphBuilder()
        self.weights: dict[str, Any] = {}
        self.channels = channels
        x = self.builder.input("x", (None, None, None, channels))
        self.x_numbers = self.numbers("x", whole=whole)
        self.x = self.builder.node("quantize", (x, *self.x_numbers), "x8")

    def numbers(self, name: str, *, whole: bool = True) -> tuple[str, str]:
        """Return the names of a scale and a zero point."""
        return tuple(
            self.parameter(f"{name}.{what}", array)
            for what, array in zip(
                ("scale", "zero"), draw_parameters(self.random, whole=whole), strict=True
            )
        )

    def parameter(self, name: str, array: Any) -> str:
        """Give the graph a parameter with these numbers."""
        self.weights[name] = array
        dtype = str(array.dtype)
        return self.builder.parameter(name, array.shape, dtype)

    def layer(self, name: str, weight_shape: tuple[int, ...], terms: int) -> list[str]:
        """Return the names of a weight, its scale and a bias, such that sums become bytes."""
        random, oc = self.random, weight_shape[0]
        weight = random.integers(-128, 128, weight_shape).astype(np.int8)
        scale = np.exp(random.normal(size=oc)) / (100 * np.sqrt(terms))
        numbers = (weight, scale.astype(F), random.normal(size=oc).astype(F))
        return [
            self.parameter(f"{name}.{what}", array)
            for what, array in zip(("weight", "weight_scale", "bias"), numbers, strict=True)
        ]


def to_byte(v: np.float32, low: int) -> int:
    """Clamp and round half to even, by Python's own rounding."""
    return round(float(min(max(float(v), low), 255)))


def slow_sums(
    x: Any, zero_point: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    """Return the sums of a convolution, int64 [N, HO, WO, OC]."""
    N, H, W, IC = x.shape
    OC, KH, KW, part = weight.shape
    top, bottom, left, right = padding
    HO = (H + top + bottom - dilation[0] * (KH - 1) - 1) // stride[0] + 1
    WO = (W + left + right - dilation[1] * (KW - 1) - 1) // stride[1] + 1
    edge = np.broadcast_to([round(float(z)) for z in np.ravel(zero_point)], IC)
    sums = np.zeros((N, HO, WO, OC), np.int64)
    for n, ho, wo, oc in np.ndindex(*sums.shape):
        first = oc // (OC // groups) * part
        total = 0
        for kh, kw, c in np.ndindex(KH, KW, part):
            h = ho * stride[0] - top + kh * dilation[0]
            w = wo * stride[1] - left + kw * dilation[1]
            inside = 0 <= h < H and 0 <= w < W
            byte = x[n, h, w, first + c] if inside else edge[first + c]
            total += int(byte) * int(weight[oc, kh, kw, c])
        sums[n, ho, wo, oc] = total
    return sums


def slow_finish(
    sums: np.ndarray,
    zero_point: Any,
    weight: Any,
    scale: Any,
    bias: Any,
    *,
    shortcut: Any = None,
    output: Any = None,
    relu: bool = False,
    groups: int = 1,
) -> np.ndarray:
    """Return the output for sums [N, HO, WO, OC], one number after the other."""
    y_scale, y_zero = map(float, output) if output else (1.0, 0.0)
    part = weight.shape[-1]
    zeros = np.broadcast_to(np.asarray(zero_point, np.float64), part * groups)
    y = np.zeros(sums.shape, np.uint8 if output else np.float32)
    for place in np.ndindex(*sums.shape):
        oc = place[-1]
        first = oc // (len(weight) // groups) * part
        of_zeros = sum(
            int(weight[oc, ..., c].astype(int).sum()) * zeros[first + c] for c in range(part)
        )
        offset = (float(bias[oc]) - float(scale[oc]) * of_zeros) / y_scale + y_zero
        v = F(sums[place]) * F(float(scale[oc]) / y_scale)
        if shortcut:
            values, r_scale, r_zero = shortcut
            ratio = float(r_scale) / y_scale
            offset -= ratio * float(r_zero)
        v = F(v + F(offset))
        if shortcut:
            v = F(v + F(F(values[place]) * F(ratio)))
        if output:
            y[place] = to_byte(v, round(y_zero) if relu else 0)
        else:
            y[place] = max(v, F(0)) if relu else v
    return y


def quantized(graph: Graph, weights: Mapping[str, Any], x: Any) -> tuple[Graph, Mapping[str, Any]]:
    """Return a graph on bytes, for the ranges that its values have for the one input ``x``."""
    plain, plain_weights = passes.apply(graph, weights)
    names = quantized_values(plain)
    values = interpret.compile(plain, plain_weights, keep=names)({graph.inputs[0].name: x})
    parameters = {n: range_parameters(values[n].min(), values[n].max() + 1e-6) for n in names}
    return passes.apply_and_quantize(graph, weights, parameters)


def signal_to_noise(exact: Any, other: Any) -> float:
    """Return the power of ``exact`` over that of the difference, in dB."""
    noise = np.square(other.astype(np.float64) - exact).mean()
    return 10 * np.log10(np.square(exact.astype(np.float64)).mean() / max(noise, 1e-300))
