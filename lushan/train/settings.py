"""The settings of a run: all that decides what it computes, as plain data.

They come from a JSON file, from the command line, or both, are checked here, and are kept in the
run folder. How fast and where a run computes (threads, cache) is no setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lushan.errors import UsageError
from lushan.train.augmentation import Augmentation
from lushan.train.checks import check_choice, check_count, check_number, from_mapping
from lushan.train.schedule import Schedule

ClassWeights = Literal["none", "inverse"]
Sampling = Literal["shuffled", "balanced"]
Keep = Literal["best", "last"]
_LARGEST_SIDE = 2048  # as of ``image.preprocess``
_MANY = 10**6


@dataclass(frozen=True)
class Settings:
    """What a run computes.

    ``model`` is an architecture, or "resnet" with a description in ``model_args``; None takes that
    of ``init``, weights to start from, else resnet18. ``freeze`` has prefixes of layers that are
    not trained. ``size`` is the side of the pictures in pixels, None that of ``init`` or of the
    architecture; ``sizes`` are (epoch, side) from which on smaller ones are used. ``preprocessing``
    has other keys of a ``pretrained_cfg``: mean, std, interpolation, crop_pct.

    ``learning_rate`` is the schedule's peak; None takes 0.1 for each 128 pictures of a batch, and a
    tenth of that with ``init``. ``clip`` is the largest norm of all gradients together. ``ema`` is
    the decay of a moving average of the weights, 0 for none, taken every ``ema_every`` steps: if
    there is one, it is what is validated and kept. ``early_stop`` ends the run after so many epochs
    without a better one. ``val_fraction`` is split off where no pictures are kept for validation.
    ``keep`` says whether the model is that of the best epoch or of the last. ``watch_gradients``
    records the norm of every parameter's gradient.
    """

    model: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    init: str | None = None
    freeze: tuple[str, ...] = ()
    epochs: int = 30
    batch: int = 64
    seed: int = 0
    size: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    label_smoothing: float = 0.0
    class_weights: ClassWeights = "none"
    sampling: Sampling = "shuffled"
    ema: float = 0.0
    ema_every: int = 1
    early_stop: int | None = None
    val_fraction: float = 0.1
    keep: Keep = "best"
    watch_gradients: bool = False

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_dict(cls, values: object) -> Settings:
        """Return settings from JSON values; raises UsageError that names the key and the value."""
        settings = dict(values) if isinstance(values, Mapping) else values
        if isinstance(settings, dict):
            for key, kind in (("schedule", Schedule), ("augmentation", Augmentation)):
                if key in settings:
                    settings[key] = from_mapping(kind, settings[key], key)
        return from_mapping(cls, settings, "settings")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as values for JSON; ``from_dict`` reads them back."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def peak(self) -> float:
        """Return the peak of the learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.1 * self.batch / 128 * (1.0 if self.init is None else 0.1)

    def size_at(self, epoch: int) -> int | None:
        """Return the side of the pictures in ``epoch``, None for the network's own."""
        reached = [side for first, side in self.sizes if first <= epoch]
        return reached[-1] if reached else None


def read_settings(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file of settings, unchecked.

    Raises UsageError for a file that cannot be read or is no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            "{path}: the settings cannot be read: {reason}", path=str(path), reason=error.strerror
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            "{path}: not valid JSON: {reason}", path=str(path), reason=str(error)
        ) from None
    if not isinstance(values, dict):
        raise UsageError("{path}: should hold a JSON object of settings", path=str(path))
    return values


def _check(settings: Settings) -> None:
    check_count("epochs", settings.epochs, 1, _MANY)
    check_count("batch", settings.batch, 1, _MANY)
    check_count("seed", settings.seed, 0, 2**63 - 1)
    check_count("ema_every", settings.ema_every, 1, _MANY)
    check_number("momentum", settings.momentum, 0, 0.9999)
    check_number("weight_decay", settings.weight_decay, 0, 1)
    check_number("label_smoothing", settings.label_smoothing, 0, 0.99)
    check_number("ema", settings.ema, 0, 0.999999)
    check_number("val_fraction", settings.val_fraction, 0.001, 0.9)
    check_choice("class_weights", settings.class_weights, ("none", "inverse"))
    check_choice("sampling", settings.sampling, ("shuffled", "balanced"))
    check_choice("keep", settings.keep, ("best", "last"))
    check_choice("watch_gradients", settings.watch_gradients, (True, False))
    if settings.size is not None:
        check_count("size", settings.size, 1, _LARGEST_SIDE)
    if settings.learning_rate is not None:
        check_number("learning_rate", settings.learning_rate, 0, 1000)
    if settings.clip is not None:
        check_number("clip", settings.clip, 1e-9, 1e9)
    if settings.early_stop is not None:
        check_count("early_stop", settings.early_stop, 1, _MANY)
    for key in ("model", "init"):
        value = getattr(settings, key)
        if value is not None and not isinstance(value, str):
            raise _wrong(key, value, UsageError("a text"))
    for key in ("model_args", "preprocessing"):
        if not isinstance(getattr(settings, key), Mapping):
            raise _wrong(key, getattr(settings, key), UsageError("an object"))
    freeze = settings.freeze
    if not isinstance(freeze, tuple) or not all(isinstance(name, str) and name for name in freeze):
        raise _wrong("freeze", freeze, UsageError("a list of texts"))
    _check_sizes(settings.sizes)


def _check_sizes(sizes: object) -> None:
    if not isinstance(sizes, tuple) or not all(
        isinstance(entry, tuple) and len(entry) == 2 for entry in sizes
    ):
        raise _wrong("sizes", sizes, UsageError("a list of pairs [epoch, side]"))
    before = 0
    for first, side in sizes:
        check_count("sizes", first, before, _MANY)
        check_count("sizes", side, 1, _LARGEST_SIDE)
        before = first


def _wrong(key: str, value: object, expected: UsageError) -> UsageError:
    return UsageError(
        "{key} is {value}; expected {expected}", key=key, value=repr(value), expected=expected
    )
