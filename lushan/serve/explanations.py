"""Answers to questions about one picture: the numbers of an explanation as JSON, or a drawing.

Runs in the process that explains (``explainer_process``), on its own recognizer.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from lushan.engines import ENGINES
from lushan.errors import UsageError
from lushan.explain import (
    arithmetic,
    cam,
    deconvnet,
    gradcam,
    guided_backpropagation,
    occlusion,
    strongest_channels,
)
from lushan.explain.drawing import heat_map, pattern_picture
from lushan.explain.inspection import Inspection
from lushan.graph.executor import Array, Program
from lushan.graph.ir import Graph
from lushan.recognizer import Recognizer
from lushan.serve.question import Question
from lushan.tour import page

HTML, JSON, PNG = "text/html", "application/json", "image/png"
_PROGRAMS = 4  # compiled and packed, of one model: each holds weights
_REMEMBERED = 64 << 20  # bytes of a picture's values; beyond, they are computed again


class Answer(NamedTuple):
    """The body of a response and its type."""

    content: bytes
    media_type: str


class Explained:
    """One model's explanations.

    Programs are kept for the next picture, values for the next question about the same picture.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        self._programs = _Programs(recognizer)
        self._last: tuple[str, _Inspection] | None = None

    def answer(self, identity: str, data: bytes, question: Question) -> Answer:
        """Answer a question about the picture in ``data``, which ``identity`` names.

        Raises UsageError for what the model or the picture does not have.
        """
        if question.method == "tour":
            return Answer(page(self.recognizer, data, question.language).encode(), HTML)
        if self._last is None or self._last[0] != identity:
            self._last = (identity, _Inspection(self.recognizer, data, self._programs))
        inspection = self._last[1]
        result = _METHODS[question.method](inspection, question)
        if inspection.remembered > _REMEMBERED:
            inspection.forget()
        return result

    def close(self) -> None:
        """Give back the memory of programs and recognizer."""
        self._programs.close()
        self.recognizer.close()


class _Programs:
    """The programs that were used last, by graph and kept values, for one model's weights."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._programs: OrderedDict[tuple[Graph, tuple[str, ...]], Program] = OrderedDict()

    def get(self, graph: Graph, keep: tuple[str, ...]) -> Program:
        """Return the program that computes ``keep``; it stays open."""
        key = graph, keep
        if key not in self._programs:
            if len(self._programs) >= _PROGRAMS:
                self._programs.popitem(last=False)[1].close()
            recognizer = self._recognizer
            compile_ = ENGINES[recognizer.engine]
            self._programs[key] = compile_(
                graph, recognizer.model.weights, keep=keep, threads=recognizer.threads
            )
        self._programs.move_to_end(key)
        return self._programs[key]

    def close(self) -> None:
        for program in self._programs.values():
            program.close()
        self._programs.clear()


class _Inspection(Inspection):
    """An inspection that compiles and packs once for all pictures, not once for each question."""

    def __init__(self, recognizer: Recognizer, data: bytes, programs: _Programs) -> None:
        self._programs = programs
        super().__init__(recognizer, data)

    @property
    def remembered(self) -> int:
        """Bytes of the values that are remembered."""
        return sum(value.nbytes for value in self._values.values())

    def run(
        self,
        graph: Graph,
        weights: Mapping[str, Array],
        inputs: Mapping[str, Array],
        keep: Iterable[str] = (),
    ) -> dict[str, Array]:
        """Run a graph once; of the model's own weights, the program is kept."""
        if weights is not self.model.weights:
            return super().run(graph, weights, inputs, keep)
        return self._programs.get(graph, tuple(sorted(keep)))(inputs)


# --- the methods ----------------------------------------------------------------------------------


def _map(inspection: Inspection, question: Question) -> Answer:
    """Show where in the picture a class was seen."""
    index = question.class_index
    if index is None:
        index = inspection.predictions(top=1)[0].index
    inspection.check_class(index)
    node: str | None = None
    if question.method == "occlusion":
        heat = occlusion(inspection, index).heat()
    elif question.method == "gradcam":
        found = gradcam(inspection, index, question.layer)
        heat, node = found.values, found.node
    else:
        found = cam(inspection, index)
        heat, node = found.values, found.node
    if question.format == "png":
        return _png(heat_map(inspection.pixels, heat))
    return _json(
        {
            "model": inspection.model.name,
            "method": question.method,
            "class": _class(inspection, index, question.language),
            "node": node,
            "seen": _seen(inspection),
            "values": _numbers(heat),
        }
    )


def _pattern(inspection: Inspection, question: Question) -> Answer:
    """Show what excited a channel, or, guided, a class."""
    layer, channel = question.layer, question.channel
    index: int | None = None
    if layer is None:
        index = question.class_index
        if index is None:
            index = inspection.predictions(top=1)[0].index
        inspection.check_class(index)
        layer, channel = inspection.output, index
    elif channel is None:
        inspection.check_map(layer)
        channel = strongest_channels(inspection, layer, 1)[0].channel
    project = deconvnet if question.method == "deconvnet" else guided_backpropagation
    (found,) = project(inspection, layer, [channel], at="strongest")
    picture = pattern_picture(found.pattern)
    if question.format == "png":
        return _png(picture)
    record: dict[str, Any] = {
        "model": inspection.model.name,
        "method": question.method,
        "layer": layer,
        "channel": channel,
        "row": found.row,
        "column": found.column,
        "activation": found.activation,
        "box": list(found.box),
        "seen": _seen(inspection),
        "pattern": _numbers(found.pattern),
    }
    if index is not None:
        record["class"] = _class(inspection, index, question.language)
    return _json(record)


def _layers(inspection: Inspection, question: Question) -> Answer:
    """List the values of the network in order, and their shapes for this picture."""
    operators = {name: node.operator for node in inspection.graph.nodes for name in node.outputs}
    layers = [
        {"name": name, "operator": operators[name], "shape": list(inspection.shape(name))}
        for name in inspection.nodes
    ]
    return _json({"model": inspection.model.name, "layers": layers})


def _arithmetic(inspection: Inspection, question: Question) -> Answer:
    """Give every product of one number, and their sum."""
    if question.layer is None or question.channel is None:
        raise UsageError("{method} needs a channel", method=question.method)
    place = None
    if question.row is not None and question.column is not None:
        place = question.row, question.column
    cell = arithmetic(inspection, question.layer, question.channel, place)
    return _json(
        {
            "model": inspection.model.name,
            "method": question.method,
            "layer": cell.node,
            "operator": cell.operator,
            "channel": cell.channel,
            "row": cell.row,
            "column": cell.column,
            "source": cell.source,
            "top": cell.top,
            "left": cell.left,
            "window": _numbers(cell.window),
            "kernel": _numbers(cell.kernel),
            "products": cell.products.tolist(),
            "inside": cell.inside.tolist(),
            "sum_of_products": cell.sum_of_products,
            "bias": cell.bias,
            "shortcut_layer": cell.shortcut_node,
            "shortcut": cell.shortcut,
            "before_activation": cell.before_activation,
            "activation": cell.activation,
            "value": cell.value,
            "displayed": cell.displayed,
            "deviation": cell.deviation,
            "running_sum": cell.running_sum,
        }
    )


_METHODS = {
    "cam": _map,
    "gradcam": _map,
    "occlusion": _map,
    "guided": _pattern,
    "deconvnet": _pattern,
    "layers": _layers,
    "arithmetic": _arithmetic,
}


def _class(inspection: Inspection, index: int, language: str) -> dict[str, object]:
    labels = inspection.model.labels
    return {
        "index": index,
        "label": labels.names[index],
        "description": labels.description(index, language),
    }


def _seen(inspection: Inspection) -> list[float]:
    """Return what the network saw of the picture: left, top, right, bottom, as parts of it."""
    report = inspection.report
    return list(inspection.model.preprocessing.seen((report.width, report.height)))


def _numbers(array: npt.NDArray[np.floating]) -> Any:
    """Return numbers as they read best: float32 to its last digit, and no further."""
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    flat = array.ravel()
    decimals = np.fromiter((float(str(number)) for number in flat), np.float64, len(flat))
    return decimals.reshape(array.shape).tolist()


def _png(pixels: npt.NDArray[np.uint8]) -> Answer:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Answer(file.getvalue(), PNG)


def _json(value: dict[str, Any]) -> Answer:
    content = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Answer(content.encode("utf-8", "replace"), JSON)
