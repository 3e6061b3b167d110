"""The configuration of a model: ``config.json`` in the layout of timm and Hugging Face.

It says what the weights beside it cannot: the architecture, the classes and their names, and the
preprocessing that the network was trained with (``pretrained_cfg``). Everything unknown is kept
in ``extra`` and written back, so that rewriting a file of another program loses nothing.

Only the kinds of JSON values are checked here. Whether they make sense is said by what uses them:
the architecture by ``zoo``, the names of the classes by ``labels``, the preprocessing by
``image.preprocess``.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lushan.errors import ModelError
from lushan.models.labels import Description
from lushan.record import field, record

# ImageNet-21k with all its descriptions takes 2 MB.
MAXIMUM_BYTES = 16 * 2**20
MAXIMUM_CLASSES = 10_000_000


@record
class ModelConfig:
    """What a model is, apart from its weights.

    ``architecture`` is a model id such as ``resnet50``; ``model_args`` describes a network of
    one's own design. ``label_names`` has an id per class (``n02123045``, ``cat``), in the order of
    the scores; ``label_descriptions`` maps an id to the name that a person reads: one text, or one
    per language (``{"en": …, "zh": …}``).
    """

    architecture: str
    num_classes: int
    num_features: int | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    label_descriptions: Mapping[str, Description] | None = None
    pretrained_cfg: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json_file(cls, path: str | Path) -> ModelConfig:
        """Read ``config.json``. Raises ModelError naming the file, the key and the value."""
        source = str(path)
        try:
            with Path(path).open("rb") as file:
                data = file.read(MAXIMUM_BYTES + 1)
        except OSError as error:
            raise ModelError(
                "{source}: cannot be read: {reason}", source=source, reason=error.strerror
            ) from None
        if len(data) > MAXIMUM_BYTES:
            raise ModelError(
                "{source}: over {megabytes} MB, which is no configuration of a model",
                source=source,
                megabytes=MAXIMUM_BYTES // 2**20,
            )
        try:
            values = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError, ModelError) as error:  # broken, nested without end, …
            raise ModelError(
                "{source}: not valid JSON in UTF-8: {reason}",
                source=source,
                reason=error if isinstance(error, ModelError) else str(error),
            ) from None
        return cls.from_dict(values, source=source)

    @classmethod
    def from_dict(cls, values: object, *, source: str = "config") -> ModelConfig:
        """Check the values of a ``config.json``; ``source`` names it in messages."""
        if not isinstance(values, Mapping):
            raise ModelError(
                "{source}: must hold a JSON object, not {kind}",
                source=source,
                kind=type(values).__name__,
            )
        rest = dict(values)
        pretrained = _mapping(source, "pretrained_cfg", rest.pop("pretrained_cfg", None))
        names = _labels(source, rest.pop("label_names", None) or pretrained.get("label_names"))
        descriptions = rest.pop("label_descriptions", None) or pretrained.get("label_descriptions")
        classes = rest.pop("num_classes", None)
        if classes is None:
            classes = pretrained.get("num_classes", None if names is None else len(names))
        features = rest.pop("num_features", None)
        return cls(
            architecture=_text(source, "architecture", rest.pop("architecture", None)),
            num_classes=_count(source, "num_classes", classes),
            num_features=None if features is None else _count(source, "num_features", features),
            model_args=_mapping(source, "model_args", rest.pop("model_args", None)),
            label_names=names,
            label_descriptions=_descriptions(source, descriptions, names),
            pretrained_cfg=pretrained,
            extra=rest,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds; ``from_dict`` reads it back unchanged."""
        optional = {
            "num_features": self.num_features,
            "model_args": dict(self.model_args) or None,
            "label_names": None if self.label_names is None else list(self.label_names),
            "label_descriptions": self.label_descriptions and dict(self.label_descriptions),
        }
        return {
            "architecture": self.architecture,
            "num_classes": self.num_classes,
            **{key: value for key, value in optional.items() if value is not None},
            **self.extra,
            "pretrained_cfg": dict(self.pretrained_cfg),
        }


def _refuse_constant(text: str) -> NoReturn:
    raise ModelError("{value} is not a JSON value", value=text)


def _wrong(source: str, key: str, value: object, expected: ModelError) -> ModelError:
    return ModelError(
        "{source}: {key} is {value}; expected {expected}",
        source=source,
        key=key,
        value=reprlib.repr(value),
        expected=expected,
    )


def _text(source: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value or not _writable(value):
        raise _wrong(source, key, value, ModelError("a text"))
    return value


def _writable(text: str) -> bool:
    """JSON can spell half characters, which no terminal and no file takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _count(source: str, key: str, value: object) -> int:
    if type(value) is not int or not 0 < value <= MAXIMUM_CLASSES:
        raise _wrong(
            source,
            key,
            value,
            ModelError("a whole number from 1 to {most}", most=MAXIMUM_CLASSES),
        )
    return value


def _mapping(source: str, key: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(source, key, value, ModelError("an object"))
    return dict(value)


def _labels(source: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise _wrong(source, "label_names", value, ModelError("a list of texts"))
    return tuple(_text(source, f"label_names[{i}]", name) for i, name in enumerate(value))


def _descriptions(
    source: str, value: object, names: tuple[str, ...] | None
) -> dict[str, Description] | None:
    """Return id -> description; a list in the order of the ids is accepted as well."""
    if value is None:
        return None
    key = "label_descriptions"
    if isinstance(value, (list, tuple)) and names is not None and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    if not isinstance(value, Mapping):
        raise _wrong(source, key, value, ModelError("an object from label to text"))
    return {
        _text(source, key, name): _description(source, f"{key}[{name!r}]", text)
        for name, text in value.items()
    }


def _description(source: str, key: str, value: object) -> Description:
    if isinstance(value, Mapping):
        return {
            _text(source, key, language): _text(source, f"{key}[{language!r}]", text)
            for language, text in value.items()
        }
    if not isinstance(value, str):
        raise _wrong(source, key, value, ModelError("a text, or texts under 'en' and 'zh'"))
    return _text(source, key, value)
