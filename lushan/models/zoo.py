"""From a name to a model that is ready to run: bundled name, folder, weights file or hub name.

A ``Model`` is everything that was decided about a network when it was trained: its description,
weights, labels and preprocessing. Nothing is downloaded unless a hub name is given.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lushan.errors import LushanError, MissingExtraError, ModelError
from lushan.graph.executor import Array
from lushan.graph.ir import Graph
from lushan.image.preprocess import Preprocessing
from lushan.models import checkpoint, hub
from lushan.models.config import ModelConfig
from lushan.models.initialize import initial_weights
from lushan.models.labels import Labels, cifar10, labels_for
from lushan.models.model_folder import CONFIG, read_model_folder
from lushan.models.quantized import is_quantized, quantized_graph
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import build
from lushan.record import record, replace

DEFAULT = "default"
CUSTOM = "resnet"  # the architecture of one's own design: ``model_args`` describes it
BUNDLED = Path(__file__).parent / "bundled"

# What weights that come without a configuration were trained with, by their authors' recipes.
_IMAGENET_CFG: dict[str, Any] = {
    "input_size": [3, 224, 224],
    "interpolation": "bilinear",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
_CIFAR_CFG: dict[str, Any] = {**_IMAGENET_CFG, "input_size": [3, 32, 32], "crop_pct": 1.0}


@record
class Model:
    """A network with its weights, and how pictures enter it and answers leave it."""

    name: str
    config: ModelConfig
    network: ResNet
    graph: Graph
    weights: Mapping[str, Array]
    labels: Labels
    preprocessing: Preprocessing

    @property
    def weight_bytes(self) -> int:
        """The memory that the weights take as they are stored."""
        from lushan.models.summary import memory_bytes

        return memory_bytes(value.type for value in self.graph.parameters)

    @property
    def precision(self) -> str:
        """What the network computes on: "float32", or "int8" where it is quantised."""
        return "int8" if "int8" in {v.type.dtype for v in self.graph.parameters} else "float32"


def bundled_names() -> list[str]:
    """Return the names of the models that ship with lushan."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def bundled_folder(name: str) -> Path:
    """Return the model folder of a model that ships with lushan."""
    return BUNDLED / name


def load_model(name: str | Path) -> Model:
    """Return the model called ``name``: bundled, a folder, a weights file, or ``owner/name``.

    Raises ModelError that says what was looked for and where, and what to do.
    """
    path = Path(name)
    if str(name) in bundled_names():
        return _from_folder(str(name), bundled_folder(str(name)))
    if os.path.isdir(path):
        return _from_folder(str(name), path)
    if os.path.isfile(path):
        return _from_file(str(name), path)
    if os.path.lexists(path):
        raise ModelError("{name}: neither a folder nor a file, so no model", name=str(name))
    if str(name) in ARCHITECTURES:
        raise ModelError(
            "{name} is an architecture, and its weights are not here: name a folder or a weights "
            "file that has them, or a hub name such as timm/resnet50.a1_in1k after "
            'pip install "lushan[hub]"',
            name=str(name),
        )
    if isinstance(name, str) and hub.is_hub_name(name):
        return _from_folder(name, _download(name))
    raise ModelError(
        "{name}: no such file or folder, and no model of that name; bundled are: {bundled}",
        name=str(name),
        bundled=", ".join(bundled_names()),
    )


def random_model(architecture: str, *, seed: int) -> Model:
    """Return the published ``architecture`` with initial weights, which recognises nothing.

    It costs as much time and memory as a trained one: for benchmarks. The weights are the same for
    the same seed.
    """
    network = ARCHITECTURES[architecture]
    graph = build(network)
    preprocessing = preprocessing_of(network)
    return Model(
        name=architecture,
        config=ModelConfig(architecture, network.classes, pretrained_cfg=preprocessing),
        network=network,
        graph=graph,
        weights=initial_weights(graph, seed=seed),
        labels=labels_for(None, None, network.classes),
        preprocessing=Preprocessing.from_pretrained_cfg(preprocessing),
    )


def natural_size(network: ResNet) -> tuple[int, int]:
    """Return the height and width of the pictures that ``network`` is made for.

    The CIFAR nets, told by a stem that does not shrink, take 32×32, the others 224×224.
    """
    return (32, 32) if network.stem_stride == 1 else (224, 224)


def describe_network(config: ModelConfig) -> ResNet:
    """Return the network that a configuration names; raises ModelError for one of another family.

    ``architecture`` is a published id, which ``model_args`` may vary, or ``"resnet"`` with the
    whole description in ``model_args``.
    """
    if config.architecture == CUSTOM:
        base: dict[str, Any] = {}
    elif config.architecture in ARCHITECTURES:
        base = ARCHITECTURES[config.architecture].to_dict()
    else:
        raise ModelError(
            "the architecture {architecture} is not one of {known}, nor {custom!r} with "
            "model_args that describe it",
            architecture=reprlib.repr(config.architecture),
            known=", ".join(ARCHITECTURES),
            custom=CUSTOM,
        )
    classifier = config.pretrained_cfg.get("classifier")
    named = {"classifier": classifier} if isinstance(classifier, str) else {}
    return ResNet.from_dict({**base, **named, **config.model_args, "classes": config.num_classes})


def _download(name: str) -> Path:
    """Return the folder of a model of the hub; a mistyped path looks like a name there."""
    if hub.is_hub_name(name, prefixed=True):
        return hub.download_model(name)
    if os.path.isdir(name.partition("/")[0]):
        raise ModelError(
            "{name}: no such file or folder here; a model of the hub is named hf-hub:{name}",
            name=name,
        )
    try:
        return hub.download_model(name)
    except MissingExtraError:
        raise MissingExtraError(
            "{name}: no such file or folder here; to look for it on the hub, an extra is needed: "
            'pip install "lushan[hub]"',
            name=name,
        ) from None
    except ModelError as error:
        raise ModelError(
            "no such file or folder here; as a name on the hub: {problem}", problem=error
        ) from None


def _from_folder(name: str, folder: Path) -> Model:
    config, weights = read_model_folder(folder)
    tensors = checkpoint.read_tensors(weights)
    return _assemble(name, config, tensors, weights, described=folder / CONFIG)


def _from_file(name: str, path: Path) -> Model:
    """Load bare weights, with the ``config.json`` beside them if there is one."""
    tensors = checkpoint.read_tensors(path)
    beside = path.with_name(CONFIG)
    if beside.is_file():
        config = ModelConfig.from_json_file(beside)
        return _assemble(name, config, tensors, path, described=beside)
    return _assemble(name, _identify(tensors, path), tensors, path, described=path)


def _identify(tensors: Mapping[str, Array], path: Path) -> ModelConfig:
    """Return a configuration for bare weights, told by the names of their tensors."""
    for architecture, network in ARCHITECTURES.items():
        names = {value.name for value in build(network).parameters}
        if names == tensors.keys():
            classes = tensors[f"{network.classifier}.bias"].shape[0]
            preprocessing = preprocessing_of(network)
            cifar10_classes = preprocessing is _CIFAR_CFG and classes == 10
            return ModelConfig(
                architecture=architecture,
                num_classes=classes,
                label_names=cifar10().names if cifar10_classes else None,
                pretrained_cfg=preprocessing,
            )
    raise ModelError(
        "{source}: its {count} tensors are not those of any known architecture ({known}); "
        "put a config.json beside it that says what it is",
        source=str(path),
        count=len(tensors),
        known=", ".join(ARCHITECTURES),
    )


def preprocessing_of(network: ResNet) -> dict[str, Any]:
    """Return the ``pretrained_cfg`` of a network that comes without one."""
    return _CIFAR_CFG if natural_size(network) == (32, 32) else _IMAGENET_CFG


def _assemble(
    name: str, config: ModelConfig, tensors: Mapping[str, Array], weights: Path, *, described: Path
) -> Model:
    """Put a model together; ``described`` is the file that says what the ``weights`` are."""
    with _naming(described):
        network = describe_network(config)
        graph = build(network)
        if is_quantized(config):
            graph = quantized_graph(graph, tensors)
    source = str(described)
    preprocessing = Preprocessing.from_pretrained_cfg(config.pretrained_cfg, source=source)
    shapes = {value.name: tuple(n or 0 for n in value.type.shape) for value in graph.parameters}
    int8 = {value.name for value in graph.parameters if value.type.dtype == "int8"}
    parameters = checkpoint.to_parameters(tensors, shapes, source=str(weights), int8=int8)
    return Model(
        name=name,
        config=replace(config, num_classes=network.classes),
        network=network,
        graph=graph,
        weights=parameters,
        labels=labels_for(
            config.label_names, config.label_descriptions, network.classes, source=source
        ),
        preprocessing=preprocessing,
    )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of a file before what is wrong with what it says."""
    try:
        yield
    except LushanError as error:
        raise ModelError("{source}: {problem}", source=str(path), problem=error) from error
