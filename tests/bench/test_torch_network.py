"""The network in PyTorch equals ours on random graphs, in both orders of memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lushan.bench.torch_network import FUNCTIONS, torch_network
from lushan.errors import BenchmarkError
from lushan.graph import interpret
from lushan.graph.builder import GraphBuilder
from lushan.models.onnx_export import CONVERSIONS, to_nchw, to_nhwc
from support.compare import relative_error
from support.random_graphs import Case, cases


def test_operators_of_the_family_are_there() -> None:
    assert CONVERSIONS.keys() - FUNCTIONS.keys() == {"transposed_convolution"}


@given(case=cases())
@settings(max_examples=30)
def test_equals_the_interpreter_on_random_graphs(case: Case) -> None:
    torch = pytest.importorskip("torch")
    output = case.graph.outputs[0]
    expected = interpret.compile(case.graph, case.weights)({"input": case.x})[output]
    for memory_format in (torch.channels_last, torch.contiguous_format):
        network = torch_network(case.graph, case.weights, memory_format)
        x = torch.from_numpy(to_nchw(case.x)).contiguous(memory_format=memory_format)
        for _ in range(2):  # what works in place must not touch weights or pictures
            with torch.inference_mode():
                actual = network(x).numpy()
            assert relative_error(to_nhwc(actual), expected) < 1e-5


def test_what_has_no_equal_is_refused_by_name() -> None:
    torch = pytest.importorskip("torch")
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 2))
    weight = builder.parameter("up.weight", (2, 1, 1, 2))
    options = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    up = builder.node("transposed_convolution", (x, weight), "up", output_padding=(0, 0), **options)
    with pytest.raises(BenchmarkError, match="'up': transposed_convolution is not written"):
        weights = {"up.weight": np.zeros((2, 1, 1, 2), np.float32)}
        torch_network(builder.build(up), weights, torch.contiguous_format)
