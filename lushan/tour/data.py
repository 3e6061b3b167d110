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
from lushan.explain.votes import classifier_of
from lushan.image.decode import Picture, PictureSource, decode
from lushan.recognizer import Recognizer
from lushan.tour import answer, maps, network, picture, variations
from lushan.tour.card import card_data
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
    data |= _inside(inspection, best)
    data |= {
        "pixels": blob(inspection.pixels),
        "heat": [list(colour) for colour in HEAT],
        "preprocessing": _preprocessing(inspection),
        "variations": variations.variations(inspection, len(classes)),
        "covered": answer.covered_data(inspection, best),
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


def _inside(inspection: Inspection, best: int) -> dict[str, Any]:
    """Return what reads values inside the network; the answer's own stay remembered."""
    nodes = maps.shown_nodes(inspection)
    shown_values = maps.wanted_values(inspection, nodes)
    features = classifier_of(inspection)[0]
    data: dict[str, Any] = {
        "weights": network.weights_data(inspection),
        "network": network.network_data(inspection),
        "collapse": network.collapse_data(inspection),
        **network.walk(inspection, (*shown_values, features)),
        "gradients": network.gradients_data(inspection, best),
        "training": card_data(inspection.model),
    }
    voters = answer.voters(inspection, best)
    layers = maps.layers_of(inspection, nodes, voters)
    inspection.forget(but=(*shown_values, features))
    data["layers"] = [maps.layer_data(inspection, layer) for layer in layers]
    data["pooling"] = maps.pooling_data(inspection, layers[0])
    inspection.forget(but=(*nodes, features))
    try:
        patterns = maps.patterns(inspection, layers)
    except UsageError:  # defined for ReLU alone: the page says so
        patterns = {}
    for record in data["layers"]:
        record["patterns"] = patterns.get(record["node"])
    return data


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
