"""One picture in one network, opened so that every value on the way to the answer can be read.

Values come from the engine that recognises pictures, through its ``keep``. Engines fold each batch
norm into its convolution and fuse what follows; a kept value is not fused away, and fusing changes
no bits. So whatever is a value of the folded network (batch norms, activations, sums, pooling,
scores) has exactly the numbers that made the answer. A convolution before its batch norm, such as
``conv1``, is none of these: the engine never computes it. Asking for it runs that convolution, with
the weights as they are in the file, on exactly what came in there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lushan.engines import ENGINES
from lushan.errors import UsageError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph, Node, TensorType, Value
from lushan.graph.verify import infer_types
from lushan.image.decode import Picture, PictureSource, decode
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import Model
from lushan.passes.fold_batch_norm import fold_batch_norm
from lushan.recognizer import Predictions, Recognizer
from lushan.text import nearest, printable

FloatArray = npt.NDArray[np.float32]


class Inspection:
    """What a recognizer makes of one picture, value by value.

    ``source`` is what ``Recognizer.classify`` takes, or a decoded picture. ``pixels`` is what the
    network sees of it, uint8 [H, W, 3]; ``input`` the same normalised, float32 [1, H, W, 3];
    ``scores`` float32 [classes]. Values are remembered once they were asked for. Raises
    PictureError for a picture that cannot be read, and UsageError for an int8 model: its values are
    bytes. ``nodes`` are the names of all values that nodes define, in order.
    """

    def __init__(self, recognizer: Recognizer, source: PictureSource | Picture) -> None:
        model = recognizer.model
        if model.precision != "float32":
            raise UsageError(
                "{model} is an int8 model; what happens inside is shown on the float32 model that "
                "it was made from",
                model=model.name,
            )
        picture = source if isinstance(source, Picture) else decode(source)
        self.recognizer = recognizer
        self.report = picture.report
        self.pixels: npt.NDArray[np.uint8] = model.preprocessing.pixels(picture)
        self.input: FloatArray = model.preprocessing.normalize(self.pixels)[None]
        self.scores: FloatArray = recognizer.scores(self.input)[0]
        self.predictions()  # raises where they are no numbers
        self._types: Mapping[str, TensorType] = infer_types(self.graph, {INPUT: self.input.shape})
        self.nodes = tuple(name for node in self.graph.nodes for name in node.outputs)
        self._values: dict[str, FloatArray] = {INPUT: self.input[0]}
        folded = fold_batch_norm(self.graph, model.weights)[0].producers()
        self._absorbed = frozenset(name for name in self.nodes if name not in folded)

    @property
    def model(self) -> Model:
        """The model that is looked into."""
        return self.recognizer.model

    @property
    def graph(self) -> Graph:
        """The network's own graph, as it was built: its nodes are what can be asked for."""
        return self.model.graph

    @property
    def output(self) -> str:
        """The name of the scores."""
        return self.graph.outputs[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        return self.input.shape[1], self.input.shape[2]

    def predictions(self, *, top: int | None = None, lang: str = "en") -> Predictions:
        """Return the answer, as ``Recognizer.classify`` does."""
        recognizer = self.recognizer
        wanted = recognizer.check_top(top, lang)
        return recognizer.answer(self.scores, self.report, wanted, lang)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a value has for this picture, [H, W, C] or [C], without it."""
        return tuple(size or 0 for size in self._types[name].shape[1:])

    def values(self, names: Iterable[str]) -> dict[str, FloatArray]:
        """Return values by name, each [H, W, C] or, after global pooling, [C].

        Those that are not known yet come from one run together, so ask for many at once. Raises
        UsageError for a name that the graph does not have, with the nearest that it has.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            self.check_node(name)
        missing = [name for name in wanted if name not in self._values]
        raw = [self.graph.node(name) for name in missing if name in self._absorbed]
        kept = {*missing, *(node.inputs[0] for node in raw)} - {*self._values, *self._absorbed}
        if kept:
            found = self.run(self._until(kept), self.model.weights, {INPUT: self.input}, kept)
            self._values.update((name, found[name][0]) for name in kept)
        if raw:
            self._values.update(self._convolve(raw))
        return {name: self._values[name] for name in wanted}

    def _until(self, names: Collection[str]) -> Graph:
        """Return the graph as far as the last of ``names``: what comes after costs weights."""
        graph = self.graph
        last = max(
            n for n, node in enumerate(graph.nodes) if not set(names).isdisjoint(node.outputs)
        )
        nodes = graph.nodes[: last + 1]
        used = {name for node in nodes for name in node.inputs}
        parameters = tuple(value for value in graph.parameters if value.name in used)
        return Graph(graph.inputs, parameters, nodes, nodes[-1].outputs)

    def _convolve(self, nodes: Sequence[Node]) -> dict[str, FloatArray]:
        """Run convolutions that folding absorbs, each for itself, on what comes in there."""
        inputs = {node.inputs[0]: self._values[node.inputs[0]] for node in nodes}
        used = {name for node in nodes for name in node.inputs[1:]}
        graph = Graph(
            tuple(
                Value(name, TensorType((None, None, None, value.shape[2])))
                for name, value in inputs.items()
            ),
            tuple(value for value in self.graph.parameters if value.name in used),
            tuple(nodes),
            tuple(node.name for node in nodes),
        )
        batch = {name: value[None] for name, value in inputs.items()}
        found = self.run(graph, self.model.weights, batch, graph.outputs)
        return {name: value[0] for name, value in found.items()}

    def value(self, name: str) -> FloatArray:
        """Return one value, [H, W, C] or [C]; see ``values``."""
        return self.values([name])[name]

    def forget(self) -> None:
        """Let the values go that are remembered; they are computed again when asked for."""
        self._values = {INPUT: self.input[0]}

    def run(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        inputs: Mapping[str, Array],
        keep: Iterable[str] = (),
    ) -> dict[str, Array]:
        """Run a graph once, on the recognizer's engine and with as many threads."""
        program = ENGINES[self.recognizer.engine](
            graph, weights, keep=tuple(keep), threads=self.recognizer.threads
        )
        try:
            return program(inputs)
        finally:
            program.close()

    def check_node(self, name: str) -> None:
        """Raise UsageError unless the graph has a node called ``name``, or it is the input."""
        if name != INPUT and name not in self.nodes:
            raise UsageError(
                "{model} has no layer {name!r}; the nearest are: {nearest}",
                model=self.model.name,
                name=printable(name),
                nearest=nearest(name, self.nodes),
            )

    def check_map(self, name: str) -> None:
        """Raise UsageError unless ``name`` is a node with height, width and channels."""
        self.check_node(name)
        if name == INPUT or len(self.shape(name)) != 3:
            raise UsageError(
                "{name} has no feature maps; the last layer that has is {last}",
                name=name,
                last=self.last_maps,
            )

    @property
    def last_maps(self) -> str:
        """The name of the last feature maps: what global pooling averages."""
        return [name for name in self.nodes if len(self.shape(name)) == 3][-1]

    def check_class(self, index: int) -> None:
        """Raise UsageError unless there is a class of that number."""
        self.model.labels.description(index, "en")

    def check_channel(self, name: str, channel: int) -> None:
        """Raise UsageError unless the node ``name`` has a channel of this number."""
        channels = self.shape(name)[-1]
        if not 0 <= channel < channels:
            raise UsageError(
                "channel {channel}: {name} has the channels 0 to {last}",
                channel=channel,
                name=name,
                last=channels - 1,
            )

    def check_place(self, name: str, place: tuple[int, int]) -> None:
        """Raise UsageError unless (row, column) lies on the maps of ``name``."""
        size = self.shape(name)[:2]
        if not all(0 <= at < side for at, side in zip(place, size, strict=True)):
            raise UsageError(
                "row {row}, column {column}: the maps of {name} have {height}×{width} pixels, "
                "counted from 0",
                row=place[0],
                column=place[1],
                name=name,
                height=size[0],
                width=size[1],
            )
