"""The configuration of a model: ``config.json`` in the layout of timm and Hugging Face.

It says what the weights beside it cannot: the architecture, the classes and their names, and the
preprocessing that the network was trained with (``pretrained_cfg``). Everything unknown is kept
in ``extra`` and written back, so that rewriting a file of another program loses nothing.

Left out on purpose: whether the architecture exists (``zoo``), what the preprocessing does
(``image.preprocess``).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lushan.errors import ModelError
from lushan.models.labels import Description

# ImageNet-21k with all its descriptions takes 2 MB.
MAXIMUM_BYTES = 16 * 2**20
MAXIMUM_CLASSES = 10_000_000


@dataclass(frozen=True)
class ModelConfig:
    """What a model is, apart from its weights.

    ``architecture`` is a model id such as ``resnet50``; ``model_args`` describes a network of
    one's own design. ``label_names`` has an id per class (``n02123045``, ``cat``), in the order of
    the scores; ``label_descriptions`` maps an id to the name that a person reads, or to one name
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
        except (ValueError, RecursionError) as error:  # broken, not UTF-8, nested without end
            raise ModelError(
                "{source}: not valid JSON in UTF-8: {reason}", source=source, reason=str(error)
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
        config = cls(
            architecture=_text(source, "architecture", rest.pop("architecture", None)),
            num_classes=_count(source, "num_classes", classes),
            num_features=None if features is None else _count(source, "num_features", features),
            model_args=_mapping(source, "model_args", rest.pop("model_args", None)),
            label_names=names,
            label_descriptions=_descriptions(source, descriptions, names),
            pretrained_cfg=pretrained,
            extra=rest,
        )
        if names is not None and len(names) != config.num_classes:
            raise ModelError(
                "{source}: label_names has {names} names for num_classes = {classes}",
                source=source,
                names=len(names),
                classes=config.num_classes,
            )
        _check_preprocessing(source, pretrained)
        return config

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
    raise ValueError(f"{text} is not a JSON value")


def _wrong(source: str, key: str, value: object, expected: str) -> ModelError:
    shown = repr(value)
    return ModelError(
        "{source}: {key} is {value}; expected {expected}",
        source=source,
        key=key,
        value=shown if len(shown) <= 80 else shown[:77] + "...",
        expected=expected,
    )


def _text(source: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value or not _writable(value):
        raise _wrong(source, key, value, "a text")
    return value


def _writable(text: str) -> bool:
    """JSON can spell half characters, which no terminal and no file takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _count(source: str, key: str, value: object) -> int:
    if type(value) is not int or not 0 < value <= MAXIMUM_CLASSES:
        raise _wrong(source, key, value, f"a whole number from 1 to {MAXIMUM_CLASSES}")
    return value


def _mapping(source: str, key: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(source, key, value, "an object")
    return dict(value)


def _labels(source: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise _wrong(source, "label_names", value, "a list of texts")
    names = tuple(_text(source, f"label_names[{i}]", name) for i, name in enumerate(value))
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise _wrong(source, "label_names", twice, "every name once")
    return names


def _descriptions(
    source: str, value: object, names: tuple[str, ...] | None
) -> dict[str, Description] | None:
    """Return id -> description; a list in the order of the ids is accepted as well."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and names is not None and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    if not isinstance(value, Mapping):
        raise _wrong(source, "label_descriptions", value, "an object from label to text")
    key = "label_descriptions"
    return {
        _text(source, key, name): _description(source, f"{key}[{name!r}]", text)
        for name, text in value.items()
    }


def _description(source: str, key: str, value: object) -> Description:
    """Return a text, or a text per language."""
    if isinstance(value, Mapping) and value and value.keys() <= {"en", "zh"}:
        return {language: _text(source, key, text) for language, text in value.items()}
    return _text(source, key, value)


def _check_preprocessing(source: str, values: Mapping[str, Any]) -> None:
    """Check the values of ``pretrained_cfg`` that decide how a picture enters the network."""
    for key in ("input_size", "test_input_size"):
        size = values.get(key)
        if size is not None and not (
            isinstance(size, (list, tuple))
            and len(size) == 3
            and all(type(side) is int and 0 < side <= 65535 for side in size)
        ):
            raise _wrong(source, f"pretrained_cfg.{key}", size, "[channels, height, width]")
    for key in ("mean", "std"):
        numbers = values.get(key)
        if numbers is not None and not (
            isinstance(numbers, (list, tuple))
            and len(numbers) in (1, 3)
            and all(_is_number(number) for number in numbers)
            and (key == "mean" or all(number > 0 for number in numbers))
        ):
            expected = "three numbers" if key == "mean" else "three numbers above 0"
            raise _wrong(source, f"pretrained_cfg.{key}", numbers, expected)
    for key in ("crop_pct", "test_crop_pct"):
        share = values.get(key)
        if share is not None and not (_is_number(share) and 0 < share <= 2):
            raise _wrong(source, f"pretrained_cfg.{key}", share, "a number above 0, mostly to 1")
    for key in ("interpolation", "crop_mode"):
        if values.get(key) is not None:
            _text(source, f"pretrained_cfg.{key}", values[key])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
