"""The ways back as they are defined, in plain NumPy loops and float64: independent of lushan's.

The network is walked node by node as it was built, with its batch norms. A convolution sends the
signal back by adding kernel · signal to every pixel of the window it came from.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from lushan.graph.ir import Graph


def windows(options, kernel, shape):
    """Yield (row, column, taps) for each place of a window; taps are (kh, kw, h, w) inside."""
    (sh, sw), (top, bottom, left, right) = options["stride"], options["padding"]
    for row in range((shape[0] + top + bottom - kernel[0]) // sh + 1):
        for column in range((shape[1] + left + right - kernel[1]) // sw + 1):
            yield (
                row,
                column,
                [
                    (kh, kw, row * sh - top + kh, column * sw - left + kw)
                    for kh in range(kernel[0])
                    for kw in range(kernel[1])
                    if 0 <= row * sh - top + kh < shape[0]
                    and 0 <= column * sw - left + kw < shape[1]
                ],
            )


def output_shape(options, kernel, shape, channels):
    (sh, sw), (top, bottom, left, right) = options["stride"], options["padding"]
    return (
        (shape[0] + top + bottom - kernel[0]) // sh + 1,
        (shape[1] + left + right - kernel[1]) // sw + 1,
        channels,
    )


def forward(graph: Graph, weights, x) -> tuple[dict, dict]:
    """Return every value of one picture x [H, W, C], and the switches of max pooling."""
    values, switches = {graph.inputs[0].name: x.astype(np.float64)}, {}
    for node in graph.nodes:
        x = values[node.inputs[0]]
        given = [weights[name].astype(np.float64) for name in node.inputs[1:] if name in weights]
        options = node.options
        if node.operator == "convolution":
            weight = given[0]  # [OC, KH, KW, IC]
            kernel = weight.shape[1:3]
            y = np.zeros(output_shape(options, kernel, x.shape, len(weight)))
            for row, column, taps in windows(options, kernel, x.shape):
                for kh, kw, h, w in taps:
                    y[row, column] += weight[:, kh, kw] @ x[h, w]
            y += given[1] if len(given) > 1 else 0
        elif node.operator == "batch_norm":
            gamma, beta, mean, variance = given
            y = (x - mean) / np.sqrt(variance + options["epsilon"]) * gamma + beta
        elif node.operator == "relu":
            y = np.maximum(x, 0)
        elif node.operator in ("max_pooling", "average_pooling"):
            y = np.zeros(output_shape(options, options["kernel"], x.shape, x.shape[2]))
            switches[node.name] = np.zeros((*y.shape, 2), int)
            for row, column, taps in windows(options, options["kernel"], x.shape):
                seen = np.array([x[h, w] for _, _, h, w in taps])
                places = np.array([(h, w) for _, _, h, w in taps])
                if node.operator == "max_pooling":
                    y[row, column] = seen.max(axis=0)
                    switches[node.name][row, column] = places[seen.argmax(axis=0)]
                else:
                    y[row, column] = seen.mean(axis=0)
        elif node.operator == "global_average_pooling":
            y = x.mean(axis=(0, 1))
        elif node.operator == "add":
            y = x + values[node.inputs[1]]
        elif node.operator == "zero_padding_shortcut":
            before = (options["channels"] - x.shape[2]) // 2
            picked = x[:: options["stride"], :: options["stride"]]
            y = np.zeros((*picked.shape[:2], options["channels"]))
            y[..., before : before + x.shape[2]] = picked
        else:
            assert node.operator == "linear", node.operator
            y = given[0] @ x + given[1]
        values[node.name] = y
    return values, switches


def send_back(graph: Graph, weights, x, source: str, signal, target: str, rule: str):
    """Return what arrives at ``target`` of a signal that starts at ``source``."""
    values, switches = forward(graph, weights, x)
    signals = defaultdict(float)
    signals[source] = signal.astype(np.float64)
    for node in reversed(graph.nodes):
        if node.name not in signals:
            continue
        g = signals[node.name]
        name = node.inputs[0]
        x = values[name]
        options = node.options
        back = np.zeros(x.shape)
        if node.operator == "convolution":
            weight = weights[node.inputs[1]].astype(np.float64)
            for row, column, taps in windows(options, weight.shape[1:3], x.shape):
                for kh, kw, h, w in taps:
                    back[h, w] += g[row, column] @ weight[:, kh, kw]
        elif node.operator == "batch_norm":
            gamma, variance = (weights[node.inputs[n]].astype(np.float64) for n in (1, 4))
            back = g * gamma / np.sqrt(variance + options["epsilon"])
        elif node.operator == "relu":
            if rule != "gradient":
                g = np.maximum(g, 0)
            back = g if rule == "deconvnet" else np.where(x > 0, g, 0)
        elif node.operator == "max_pooling":
            for row, column, channel in np.ndindex(g.shape):
                h, w = switches[node.name][row, column, channel]
                back[h, w, channel] += g[row, column, channel]
        elif node.operator == "average_pooling":
            for row, column, taps in windows(options, options["kernel"], x.shape):
                for _, _, h, w in taps:
                    back[h, w] += g[row, column] / len(taps)
        elif node.operator == "global_average_pooling":
            back += g / (x.shape[0] * x.shape[1])
        elif node.operator == "add":
            back = g
            signals[node.inputs[1]] = signals[node.inputs[1]] + g
        elif node.operator == "zero_padding_shortcut":
            before = (options["channels"] - x.shape[2]) // 2
            back[:: options["stride"], :: options["stride"]] = g[..., before : before + x.shape[2]]
        else:
            assert node.operator == "linear", node.operator
            back = weights[node.inputs[1]].astype(np.float64).T @ g
        signals[name] = signals[name] + back
    return signals[target]
