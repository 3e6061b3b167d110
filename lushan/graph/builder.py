"""Building a graph node by node, with every name written once.

The builder only collects; ``build`` verifies. Attributes are canonical in a graph (pairs and
four-sided padding), so the builder's methods accept the short forms that people write.
"""

from __future__ import annotations

from lushan.graph.ir import Attribute, Graph, Node, Shape, TensorType, Value, make_node
from lushan.graph.verify import verify


class GraphBuilder:
    """Collects inputs, parameters and nodes; every method returns the name of what it added."""

    def __init__(self) -> None:
        self._inputs: list[Value] = []
        self._parameters: list[Value] = []
        self._nodes: list[Node] = []

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> str:
        """Add an input; ``None`` in ``shape`` is a size known at run time."""
        self._inputs.append(Value(name, TensorType(shape, dtype)))
        return name

    def parameter(self, name: str, shape: tuple[int, ...]) -> str:
        """Add a float32 parameter."""
        self._parameters.append(Value(name, TensorType(shape)))
        return name

    def node(
        self,
        operator: str,
        inputs: tuple[str, ...],
        name: str,
        *,
        more_outputs: tuple[str, ...] = (),
        updates: tuple[str, ...] = (),
        **attributes: Attribute,
    ) -> str:
        """Add a node called ``name``, which is also its first output."""
        outputs = (name, *more_outputs)
        self._nodes.append(make_node(operator, inputs, outputs, updates=updates, **attributes))
        return name

    def convolution(
        self,
        x: str,
        name: str,
        *,
        channels: tuple[int, int],
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> str:
        """Add a square convolution with its parameters.

        ``channels`` is (IC, OC). ``padding`` None keeps the picture's size at stride 1, for an odd
        kernel. The weight is called ``{name}.weight``, the bias ``{name}.bias``.
        """
        ic, oc = channels
        inputs = [x, self.parameter(f"{name}.weight", (oc, kernel, kernel, ic))]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", (oc,)))
        border = kernel // 2 if padding is None else padding
        return self.node(
            "convolution",
            tuple(inputs),
            name,
            stride=(stride, stride),
            padding=(border,) * 4,
            dilation=(1, 1),
            groups=1,
        )

    def batch_norm(self, x: str, name: str, channels: int, epsilon: float = 1e-5) -> str:
        """Add an inference batch norm with its four parameters, named as torchvision does."""
        names = ("weight", "bias", "running_mean", "running_var")
        parameters = [self.parameter(f"{name}.{part}", (channels,)) for part in names]
        return self.node("batch_norm", (x, *parameters), name, epsilon=epsilon)

    def linear(self, x: str, name: str, features: tuple[int, int]) -> str:
        """Add a fully connected layer with bias; ``features`` is (IC, OC)."""
        ic, oc = features
        weight = self.parameter(f"{name}.weight", (oc, ic))
        return self.node("linear", (x, weight, self.parameter(f"{name}.bias", (oc,))), name)

    def build(self, *outputs: str) -> Graph:
        """Return the verified graph with the given outputs."""
        graph = Graph(
            tuple(self._inputs), tuple(self._parameters), tuple(self._nodes), tuple(outputs)
        )
        verify(graph)
        return graph
