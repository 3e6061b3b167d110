"""The text form of a graph is stable and complete."""

from __future__ import annotations

from lushan.graph.builder import GraphBuilder
from lushan.graph.printer import to_text

GOLDEN = """\
input input: float32[?, ?, ?, 3]
parameter conv.weight: float32[8, 3, 3, 3]
parameter bn.weight: float32[8]
parameter bn.bias: float32[8]
parameter bn.running_mean: float32[8]
parameter bn.running_var: float32[8]
parameter fc.weight: float32[2, 8]
parameter fc.bias: float32[2]
conv = convolution(input, conv.weight) dilation=(1,1) groups=1 padding=(1,1,1,1) stride=(2,2)\
: float32[?, ?, ?, 8]
bn = batch_norm(conv, bn.weight, bn.bias, bn.running_mean, bn.running_var) epsilon=1e-05\
: float32[?, ?, ?, 8]
pool, switches = max_pooling(bn) kernel=(2,2) padding=(0,0,0,0) stride=(2,2)\
: float32[?, ?, ?, 8], int64[?, ?, ?, 8]
avgpool = global_average_pooling(pool): float32[?, 8]
fc = linear(avgpool, fc.weight, fc.bias): float32[?, 2]
output fc
"""


def test_golden_text() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 3))
    x = builder.batch_norm(builder.convolution(x, "conv", 8, kernel=3, stride=2), "bn")
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    x = builder.node("max_pooling", (x,), "pool", more_outputs=("switches",), **window)
    x = builder.node("global_average_pooling", (x,), "avgpool")
    assert to_text(builder.build(builder.linear(x, "fc", 2))) == GOLDEN
