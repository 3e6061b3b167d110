"""Chapters 11, 12 and 15: the vote of the features, the scores, and where the answer came from."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lushan.errors import UsageError
from lushan.explain import Inspection, cam, contributions, gradcam, occlusion
from lushan.explain.votes import classifier_of
from lushan.models.labels import imagenet1k
from lushan.tour.encoding import blob

TOP = 5
VOTERS = 12
_CATS = range(281, 288)  # tabby to lynx, in ImageNet's order
_POSITIONS = 7  # covering squares along a side


def best_classes(inspection: Inspection) -> list[int]:
    """Return the classes of the answer, best first."""
    return [one.index for one in inspection.predictions()]


def voters(inspection: Inspection, best: int) -> list[int]:
    """Return the features that move the score of the class ``best`` most, either way."""
    return [feature for feature, _ in contributions(inspection, best).strongest(VOTERS)]


def votes_data(inspection: Inspection, classes: list[int]) -> dict[str, Any]:
    """Return features, and the weights and biases of the answer's classes: all of their terms."""
    found = [contributions(inspection, index) for index in classes]
    features, weight, _ = classifier_of(inspection)
    return {
        "node": features,
        "layer": inspection.output,
        "features": blob(np.asarray(found[0].features)),
        "classes": classes,
        "weights": blob(np.stack([one.weights for one in found]).astype(np.float32)),
        "biases": [one.bias for one in found],
        "scores": [one.score for one in found],
        "shape": list(inspection.model.weights[weight].shape),
    }


def scores_data(inspection: Inspection) -> dict[str, Any]:
    """Return the scores of all classes."""
    cats = imagenet1k()
    return {
        "scores": blob(inspection.scores.astype(np.float32)),
        "cats": [
            {"index": index, "id": cats.names[index], "en": cats.english[index],
             "zh": cats.chinese[index]}
            for index in _CATS
        ],
    }  # fmt: skip


def places_data(inspection: Inspection, best: int) -> dict[str, Any]:
    """Return where in the picture the class ``best`` was seen: CAM, or Grad-CAM, and occlusion."""
    try:
        found, exact = cam(inspection, best), True
    except UsageError:
        found, exact = gradcam(inspection, best), False
    size = max(1, -(-min(inspection.size) // _POSITIONS))
    covered = occlusion(inspection, best, size=size, stride=size)
    return {
        "class": best,
        "cam": blob(found.values.astype(np.float32)),
        "cam_sum": float(found.values.sum()),
        "exact": exact,
        "node": found.node,
        "occlusion": {
            "size": list(covered.size),
            "rows": list(covered.rows),
            "columns": list(covered.columns),
            "scores": blob(covered.scores.astype(np.float32)),
            "probabilities": blob(covered.probabilities.astype(np.float32)),
            "score": covered.score,
            "probability": covered.probability,
        },
    }


def time_data(inspection: Inspection, decode_seconds: float) -> dict[str, Any]:
    """Return how long the answer takes on this machine: the shortest of a few runs, seconds."""
    recognizer = inspection.recognizer
    runs = []
    for _ in range(3):
        start = time.perf_counter()
        recognizer.scores(inspection.input)
        runs.append(time.perf_counter() - start)
    return {
        "decode": decode_seconds,
        "network": min(runs),
        "threads": recognizer.threads,
        "engine": recognizer.engine,
    }
