"""From the description of a residual network to its graph.

Each block's method is its recipe, line by line. Parameters bear torchvision's names, so that
published weights load as they are: ``conv1.weight``, ``layer3.0.bn2.running_mean``,
``layer2.0.downsample.0.weight``, ``fc.bias``. A node is called after its layer.
"""

from __future__ import annotations

from typing import Any

from lushan.graph.builder import GraphBuilder
from lushan.graph.ir import Graph
from lushan.models.resnet import ResNet

INPUT = "input"  # the graph's input: float32 [N, H, W, 3], preprocessed
LEAKY_SLOPE = 0.01


def build(network: ResNet) -> Graph:
    """Return the graph of ``network``: pictures float32 [N, H, W, 3] → scores [N, classes].

    Scores are the numbers before softmax; that output is called after the classifier.
    """
    return _Recipe(network).build()


class _Recipe:
    """Adds the parts of one network to a graph, each method returning the name of its result."""

    def __init__(self, network: ResNet) -> None:
        self._network = network
        self._builder = GraphBuilder()

    def build(self) -> Graph:
        network, builder = self._network, self._builder
        block = {"basic": self._basic, "bottleneck": self._bottleneck}[network.block]
        x = self._stem(builder.input(INPUT, (None, None, None, 3)))
        for stage, (depth, width) in enumerate(zip(network.depths, network.widths, strict=True), 1):
            for index in range(depth):
                x = block(x, f"layer{stage}.{index}", width, 2 if stage > 1 and index == 0 else 1)
        x = builder.node("global_average_pooling", (x,), "avgpool")
        return builder.build(builder.linear(x, network.classifier, network.classes))

    def _stem(self, x: str) -> str:
        network = self._network
        x = self._convolution(
            x, ("conv1", "bn1"), network.stem_channels, network.stem_kernel, network.stem_stride
        )
        x = self._activation(x, "relu")
        pooling = network.stem_pooling
        if pooling == "none":
            return x
        # Averages leave the border out: its zeros are not pixels.
        extra: dict[str, Any] = {"count_include_pad": False} if pooling == "average" else {}
        return self._builder.node(
            f"{pooling}_pooling",
            (x,),
            "maxpool" if pooling == "max" else "avgpool1",
            kernel=(3, 3),
            stride=(2, 2),
            padding=(1, 1, 1, 1),
            **extra,
        )

    def _basic(self, x: str, name: str, width: int, stride: int) -> str:
        shortcut = self._shortcut(x, name, width, stride)
        y = self._convolution(x, (f"{name}.conv1", f"{name}.bn1"), width, 3, stride)
        y = self._activation(y, f"{name}.relu1")
        y = self._convolution(y, (f"{name}.conv2", f"{name}.bn2"), width, 3)
        y = self._join(y, shortcut, name)
        return self._activation(y, f"{name}.relu2")

    def _bottleneck(self, x: str, name: str, width: int, stride: int) -> str:
        channels = width * self._network.expansion
        shortcut = self._shortcut(x, name, channels, stride)
        y = self._convolution(x, (f"{name}.conv1", f"{name}.bn1"), width, 1)
        y = self._activation(y, f"{name}.relu1")
        y = self._convolution(y, (f"{name}.conv2", f"{name}.bn2"), width, 3, stride)
        y = self._activation(y, f"{name}.relu2")
        y = self._convolution(y, (f"{name}.conv3", f"{name}.bn3"), channels, 1)
        y = self._join(y, shortcut, name)
        return self._activation(y, f"{name}.relu3")

    def _shortcut(self, x: str, name: str, channels: int, stride: int) -> str | None:
        """Bring x to the shape of the branch's result; a plain network has no shortcut."""
        kind = self._network.shortcut
        if kind == "none":
            return None
        if stride == 1 and channels == self._builder.channels(x):
            return x
        if kind == "projection":
            names = (f"{name}.downsample.0", f"{name}.downsample.1")
            return self._convolution(x, names, channels, 1, stride)
        return self._builder.node(
            "zero_padding_shortcut", (x,), f"{name}.shortcut", stride=stride, channels=channels
        )

    def _join(self, branch: str, shortcut: str | None, name: str) -> str:
        """Add F(x) + x; a plain network keeps F(x)."""
        if shortcut is None:
            return branch
        return self._builder.node("add", (branch, shortcut), f"{name}.add")

    def _convolution(
        self, x: str, names: tuple[str, str], channels: int, kernel: int, stride: int = 1
    ) -> str:
        """Add a convolution and its batch norm; in a network without them it has a bias."""
        name, norm = names
        with_norm = self._network.batch_norm
        y = self._builder.convolution(
            x, name, channels, kernel=kernel, stride=stride, bias=not with_norm
        )
        return self._builder.batch_norm(y, norm) if with_norm else y

    def _activation(self, x: str, name: str) -> str:
        activation = self._network.activation
        if activation == "prelu":
            return self._builder.prelu(x, name)
        if activation == "leaky_relu":
            return self._builder.node("leaky_relu", (x,), name, slope=LEAKY_SLOPE)
        return self._builder.node(activation, (x,), name)
