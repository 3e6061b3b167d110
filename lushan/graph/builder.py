"""Building a graph node by node, with every name and every size written once.

The builder knows the type of each value as it goes, so a convolution is told only how many channels
it gives out. ``build`` verifies the whole. Attributes are canonical in a graph (pairs, four-sided
padding); the methods here accept the short forms that people write.
"""

from __future__ import annotations

from lushan.errors import GraphError
from lushan.graph.ir import Attribute, Graph, Node, Shape, TensorType, Value, make_node
from lushan.graph.operators import output_types
from lushan.graph.verify import check_signature, verify


class GraphBuilder:
    """Collects inputs, parameters and nodes; the methods return the name of what they added."""

    def __init__(self) -> None:
        self._inputs: list[Value] = []
        self._parameters: list[Value] = []
        self._nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}

    def channels(self, name: str) -> int:
        """Return the last dimension of the value ``name``: its channels or features."""
        shape = self._type(name).shape
        if not shape or shape[-1] is None:
            raise GraphError("the channels of {name!r} are not known", name=name)
        return shape[-1]

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> str:
        """Add an input; ``None`` in ``shape`` is a size known at run time."""
        self._types[name] = TensorType(shape, dtype)
        self._inputs.append(Value(name, self._types[name]))
        return name

    def parameter(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """Add a parameter."""
        self._types[name] = TensorType(shape, dtype)
        self._parameters.append(Value(name, self._types[name]))
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
        """Add a node called ``name``, which is also its first output.

        Raises GraphError for an unknown operator or value, and for what its signature or its shape
        rule refuses.
        """
        outputs = (name, *more_outputs)
        node = make_node(operator, inputs, outputs, updates=updates, **attributes)
        check_signature(node)
        types = output_types(node, [self._type(value) for value in inputs])
        self._types.update(zip(outputs, types, strict=True))
        self._nodes.append(node)
        return name

    def _type(self, name: str) -> TensorType:
        if name not in self._types:
            raise GraphError("nothing called {name!r} has been added to the graph", name=name)
        return self._types[name]

    def convolution(
        self,
        x: str,
        name: str,
        channels: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> str:
        """Add a square convolution to ``channels`` output channels, with its parameters.

        ``padding`` None keeps the picture's size at stride 1, for an odd kernel. The weight is
        called ``{name}.weight`` [OC, KH, KW, IC], the bias ``{name}.bias`` [OC].
        """
        weight = self.parameter(f"{name}.weight", (channels, kernel, kernel, self.channels(x)))
        biases = (self.parameter(f"{name}.bias", (channels,)),) if bias else ()
        border = kernel // 2 if padding is None else padding
        return self.node(
            "convolution",
            (x, weight, *biases),
            name,
            stride=(stride, stride),
            padding=(border, border, border, border),
            dilation=(1, 1),
            groups=1,
        )

    def batch_norm(self, x: str, name: str, epsilon: float = 1e-5) -> str:
        """Add an inference batch norm with its four parameters, named as torchvision does."""
        names = ("weight", "bias", "running_mean", "running_var")
        parameters = [self.parameter(f"{name}.{part}", (self.channels(x),)) for part in names]
        return self.node("batch_norm", (x, *parameters), name, epsilon=epsilon)

    def prelu(self, x: str, name: str) -> str:
        """Add a PReLU with a slope per channel, called ``{name}.weight``."""
        return self.node("prelu", (x, self.parameter(f"{name}.weight", (self.channels(x),))), name)

    def linear(self, x: str, name: str, features: int) -> str:
        """Add a fully connected layer to ``features`` outputs, with weight [OC, IC] and bias."""
        weight = self.parameter(f"{name}.weight", (features, self.channels(x)))
        return self.node("linear", (x, weight, self.parameter(f"{name}.bias", (features,))), name)

    def build(self, *outputs: str) -> Graph:
        """Return the verified graph with the given outputs."""
        graph = Graph(
            tuple(self._inputs), tuple(self._parameters), tuple(self._nodes), tuple(outputs)
        )
        verify(graph)
        return graph
