"""Where a training starts: the network, what its folder will say of it, and its initial weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lushan.errors import LushanError, UsageError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.graph.verify import infer_types
from lushan.image.preprocess import Preprocessing
from lushan.models.config import ModelConfig
from lushan.models.initialize import initial_weights
from lushan.models.labels import imagenet1k
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from lushan.models.zoo import CUSTOM, Model, describe_network, load_model, preprocessing_of
from lushan.text import first_few
from lushan.train.settings import Settings

DEFAULT_MODEL = "resnet18"
_PREPROCESSING_KEYS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


@dataclass(frozen=True)
class StartingPoint:
    """A network that is to be trained: its configuration, graph and preprocessing."""

    config: ModelConfig
    network: ResNet
    graph: Graph
    preprocessing: Preprocessing

    @classmethod
    def of(cls, config: ModelConfig) -> StartingPoint:
        """Return it as a configuration says."""
        network = describe_network(config)
        preprocessing = Preprocessing.from_pretrained_cfg(config.pretrained_cfg, source="settings")
        return cls(config, network, build(network), preprocessing)

    def check_sizes(self, settings: Settings) -> None:
        """Raise GraphError for pictures too small for the network."""
        own = (self.preprocessing.height, self.preprocessing.width)
        for height, width in (own, *((side, side) for _, side in settings.sizes)):
            infer_types(self.graph, {INPUT: (settings.batch, height, width, 3)})


def configure(
    settings: Settings, classes: Sequence[str], descriptions: Mapping[str, Mapping[str, str]]
) -> ModelConfig:
    """Return what the model's config.json will say.

    Raises ModelError or UsageError for a network, weights or preprocessing that cannot be.
    """
    original = _original(settings)
    if settings.model is None and original is not None:
        if settings.model_args:
            raise UsageError(
                "model_args need a model beside them, an architecture or {custom!r}", custom=CUSTOM
            )
        network = replace(original.network, classes=len(classes))
    else:
        named = ModelConfig(
            settings.model or DEFAULT_MODEL, len(classes), model_args=settings.model_args
        )
        network = describe_network(named)
    base = original.preprocessing.to_pretrained_cfg() if original else preprocessing_of(network)
    architecture = _architecture(network)
    return ModelConfig(
        architecture=architecture,
        num_classes=len(classes),
        model_args=network.to_dict() if architecture == CUSTOM else {},
        label_names=tuple(classes),
        # Of wnids lushan has names of its own, in two languages, that follow the pictures.
        label_descriptions={
            name: texts for name, texts in descriptions.items() if name not in imagenet1k().names
        }
        or None,
        pretrained_cfg=_pretrained_cfg(dict(base), settings),
    )


def starting_weights(
    settings: Settings,
    start: StartingPoint,
    *,
    tell: Callable[[LushanError], None] = lambda notice: None,
) -> dict[str, Array]:
    """Return the weights to begin with, float32 by name: by the seed, or those of ``init``.

    The classifier of ``init`` is kept where it has the same classes in the same order; ``tell`` is
    told where it is not. Raises ModelError or UsageError where ``init`` cannot be had, or is of
    another network.
    """
    weights = initial_weights(start.graph, seed=settings.seed)
    original = _original(settings)
    if original is None:
        return weights
    same_classes = original.labels.names == start.config.label_names
    if same_classes:
        ours = theirs = ""
    else:
        ours, theirs = f"{start.network.classifier}.", f"{original.network.classifier}."
    taken = {name for name in original.weights if not (theirs and name.startswith(theirs))}
    wanted = {name for name in weights if not (ours and name.startswith(ours))}
    wrong = sorted(taken ^ wanted)
    arrays = {name: np.array(original.weights[name], order="C") for name in taken & wanted}
    wrong += [name for name, array in arrays.items() if array.shape != weights[name].shape]
    if wrong:
        raise UsageError(
            "{init}: its weights are of another network; these differ ({count}): {names}; leave "
            "out --model to train the network that the weights are of",
            init=settings.init,
            count=len(wrong),
            names=first_few(wrong),
        )
    if not same_classes:
        tell(
            UsageError(
                "{init}: its {theirs} classes are not these {ours}: the classifier {name} begins "
                "anew; all other weights are taken over",
                init=settings.init,
                theirs=len(original.labels),
                ours=start.config.num_classes,
                name=start.network.classifier,
            )
        )
    return weights | arrays


def absolute(init: str | None) -> str | None:
    """Return weights that lie on disk by their absolute path: a run may be resumed elsewhere."""
    return str(Path(init).resolve()) if init is not None and Path(init).exists() else init


def _original(settings: Settings) -> Model | None:
    if settings.init is None:
        return None
    model = load_model(settings.init)
    if model.precision != "float32":
        raise UsageError(
            "{init}: an int8 model cannot be trained: name the float32 model it was made of",
            init=settings.init,
        )
    return model


def _architecture(network: ResNet) -> str:
    for name, known in ARCHITECTURES.items():
        if replace(known, classes=network.classes) == network:
            return name
    return CUSTOM


def _pretrained_cfg(base: dict[str, Any], settings: Settings) -> dict[str, Any]:
    for key in settings.preprocessing:
        if key not in _PREPROCESSING_KEYS:
            raise UsageError(
                "{name} has no setting {key}; there are {known}",
                name="preprocessing",
                key=repr(key),
                known=", ".join(_PREPROCESSING_KEYS),
            )
    if settings.size is not None:
        base["input_size"] = [3, settings.size, settings.size]
    values = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in settings.preprocessing.items()
    }
    return Preprocessing.from_pretrained_cfg(
        {**base, **values}, source="settings"
    ).to_pretrained_cfg()
