"""The tour of one picture through one network as plain data, chapter by chapter.

The order of the work is not that of the chapters: values of the network are large, so what reads
many of them comes first and lets them go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from lushan.errors import UsageError
from lushan.explain import Inspection
from lushan.explain.drawing import HEAT
from lushan.image.decode import Picture, PictureSource, decode
from lushan.recognizer import Recognizer
from lushan.tour import answer, maps, network, picture, variations
from lushan.tour.encoding import blob


def page_data(recognizer: Recognizer, source: PictureSource | Picture) -> dict[str, Any]:
    """Return everything that the page shows, ready for JSON.

    ``source`` is what ``Recognizer.classify`` takes, or a decoded picture. Every number comes from
    this picture and this model. Raises PictureError for a picture that cannot be read, UsageError
    for an int8 model, ModelError for weights that give no numbers.
    """
    start = time.perf_counter()
    decoded = source if isinstance(source, Picture) else decode(source)
    decode_seconds = time.perf_counter() - start
    inspection = Inspection(recognizer, decoded)
    classes = answer.best_classes(inspection)
    best = classes[0]
    data: dict[str, Any] = {
        "picture": picture.picture_data(inspection, decoded),
        "layout": picture.layout_data(inspection),
        "colour": picture.colour_data(inspection, decoded),
    }
    del decoded, source
    data |= _whole_network(inspection, best)
    inspection.forget()
    data |= _layers(inspection, best)
    inspection.forget()
    data |= {
        "pixels": blob(inspection.pixels),
        "heat": [list(colour) for colour in HEAT],
        "preprocessing": _preprocessing(inspection),
        "variations": variations.variations(inspection, len(classes)),
        "votes": answer.votes_data(inspection, classes),
        "softmax": answer.scores_data(inspection),
        "places": answer.places_data(inspection, best),
        "time": answer.time_data(inspection, decode_seconds),
        "model": {"name": _name(recognizer), "classes": len(recognizer.labels)},
        "answers": [
            {"index": one.index, "probability": one.probability} for one in inspection.predictions()
        ],
    }
    data["labels"] = _labels(recognizer, data)
    return data


def _whole_network(inspection: Inspection, best: int) -> dict[str, Any]:
    """Return what reads values of all layers."""
    return {
        "weights": network.weights_data(inspection),
        "network": network.network_data(inspection),
        "blocks": network.blocks_data(inspection),
        "activations": network.activations_data(inspection),
        "collapse": network.collapse_data(inspection),
        "training": network.training_data(inspection, best),
    }


def _layers(inspection: Inspection, best: int) -> dict[str, Any]:
    """Return the layers whose maps are shown, with their patterns."""
    nodes = maps.shown_nodes(inspection)
    inspection.values(maps.wanted_values(inspection, nodes))
    voters = answer.voters(inspection, best)
    layers = maps.layers_of(inspection, nodes, voters)
    shown = [maps.layer_data(inspection, layer) for layer in layers]
    pooling = maps.pooling_data(inspection, layers[0])
    inspection.forget()
    for layer, record in zip(layers, shown, strict=True):
        try:
            record["patterns"] = maps.patterns(inspection, layer)
        except UsageError:  # defined for ReLU alone: the page says so
            record["patterns"] = None
    return {"layers": shown, "pooling": pooling, "voters": voters}


def _preprocessing(inspection: Inspection) -> dict[str, Any]:
    recipe = inspection.model.preprocessing
    return {
        "size": list(inspection.size),
        "mean": list(recipe.mean),
        "std": list(recipe.std),
        "interpolation": recipe.interpolation,
        "crop": recipe.crop_pct,
        "mode": recipe.crop_mode,
    }


def _name(recognizer: Recognizer) -> str:
    """Return the model's name without the folders above it, which are nobody's business."""
    return recognizer.model.name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _labels(recognizer: Recognizer, data: dict[str, Any]) -> dict[int, dict[str, str]]:
    """Return the names of all classes that occur in an answer."""
    labels = recognizer.labels
    lists: Iterable[list[dict[str, Any]]] = (
        data["answers"], *(changed["answers"] for changed in data["variations"]),
    )  # fmt: skip
    indices = {one["index"] for answers in lists for one in answers}
    name: Callable[[int, str], str] = labels.description
    return {
        index: {"id": labels.names[index], "en": name(index, "en"), "zh": name(index, "zh")}
        for index in sorted(indices)
    }
