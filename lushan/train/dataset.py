"""A folder of labelled pictures as training data: classes, labels, and what is kept for validation.

Two layouts: ``root/<class>/…``, and ``root/train/<class>/…`` with ``root/val/<class>/…`` beside it
(or ``valid``, or ``validation``: data sets come with each of these names).
Where nothing is kept for validation, ``split`` takes a part of each class. Classes are numbered in
the order of their names. Nothing here opens a picture (``picture_check`` does), or changes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lushan.errors import UsageError
from lushan.image.files import find_pictures
from lushan.image.sources import source_name
from lushan.text import first_few
from lushan.train.sampling import Purpose, generator

TRAIN, VALIDATION = "train", ("val", "valid", "validation")
_PARTS = {TRAIN, "training", *VALIDATION, "test", "testing"}  # of a data set, not classes
CLASS_NAMES = "classes.tsv"


@dataclass(frozen=True)
class Sample:
    """One labelled picture."""

    path: Path
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """What lies in a folder of labelled pictures; ``val`` is None where nothing is kept apart."""

    root: Path
    classes: tuple[str, ...]  # names of the folders, which are the ids of the classes
    train: tuple[Sample, ...]
    val: tuple[Sample, ...] | None


def open_image_folder(root: Path, *, val: Path | None = None) -> ImageFolder:
    """Return the labelled pictures below ``root``, by their folders.

    ``val`` is another folder of the same classes to validate on. Raises UsageError, which names
    what is wrong and what to do: no such folder, no classes, one class only, an empty class, a
    class to validate on that is not trained, parts of a data set in place of classes.
    """
    train_folder, val = _parts(root, val)
    classes = _class_folders(train_folder)
    if classes and _PARTS.issuperset(name.casefold() for name in classes):
        raise UsageError(
            "{folder}: {names} are parts of a data set, not classes: rename the one to train on "
            "to train, the one to validate on to val, or name them yourself: DIR and --val",
            folder=str(train_folder),
            names=", ".join(classes),
        )
    if len(classes) < 2:
        raise UsageError(
            "{folder}: training needs two classes or more, one folder of pictures for each; "
            "there are {count}: {names}",
            folder=str(train_folder),
            count=len(classes),
            names=", ".join(classes) or "–",
        )
    train = _samples(train_folder, classes)
    check_classes(train, classes, train_folder)
    return ImageFolder(root, classes, train, None if val is None else _validation(val, classes))


def check_outside(output: Path, root: Path, *, val: Path | None = None) -> None:
    """Raise UsageError where a run in ``output`` would be a class among those below ``root``."""
    for folder in filter(None, _parts(root, val)):
        if output.resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                "{path}: lies in {folder}, where every folder is a class: the run would be one, "
                "too; name a folder outside",
                path=str(output),
                folder=str(folder),
            )


def check_classes(samples: Sequence[Sample], classes: Sequence[str], folder: Path) -> None:
    """Raise UsageError for classes that have no picture to learn from."""
    counts = Counter(sample.label for sample in samples)
    empty = [name for label, name in enumerate(classes) if not counts[label]]
    if empty:
        raise UsageError(
            "{folder}: no picture that can be read in {count} of its classes: {names}; put "
            "pictures into their folders, or take the folders away",
            folder=str(folder),
            count=len(empty),
            names=first_few(empty),
        )


def split(
    samples: Sequence[Sample], groups: Sequence[bytes], *, fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Return (train, val): about ``fraction`` of each class's pictures, one at least, go to val.

    ``groups`` has a key per sample; samples of one class with the same key, copies of one picture,
    stay together. A class that has no second picture keeps its only one for training. The same for
    the same seed and the same pictures. Raises UsageError where nothing is left to validate on.
    """
    by_class: dict[int, dict[bytes, list[int]]] = {}
    for index, (sample, group) in enumerate(zip(samples, groups, strict=True)):
        by_class.setdefault(sample.label, {}).setdefault(group, []).append(index)
    held: set[int] = set()
    for label, members in by_class.items():
        wanted = max(1, round(fraction * sum(map(len, members.values()))))
        copies = list(members.values())
        taken = 0
        for place in generator(seed, Purpose.split, 0, label).permutation(len(copies))[1:]:
            if taken + len(copies[place]) > wanted:
                continue
            held.update(copies[place])
            taken += len(copies[place])
    if not held:
        raise UsageError(
            "{count} pictures of {classes} classes leave none to validate on: give each class two "
            "different pictures or more, or a folder of pictures to validate on",
            count=len(samples),
            classes=len(by_class),
        )
    train = [sample for index, sample in enumerate(samples) if index not in held]
    return train, [samples[index] for index in sorted(held)]


def labels_of(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """Return the labels of samples, int64 [N]."""
    return np.array([sample.label for sample in samples], np.int64)


def read_class_names(root: Path, classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return id → {"en": …, "zh": …} from ``root/classes.tsv``, where there is one.

    Its lines are id, English name and, if wanted, Chinese name, separated by tabs; classes that it
    does not have are passed over. Raises UsageError for a file that cannot be read as text.
    """
    path = root / CLASS_NAMES
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(
            "{path}: not a text of class names in UTF-8: {reason}",
            path=str(path),
            reason=str(error),
        ) from None
    known = set(classes)
    names: dict[str, dict[str, str]] = {}
    for line in lines:
        name, *texts = (part.strip() for part in line.split("\t"))
        if name in known:
            named = {key: text for key, text in zip(("en", "zh"), texts, strict=False) if text}
            names |= {name: named} if named else {}
    return names


def _parts(root: Path, val: Path | None) -> tuple[Path, Path | None]:
    """Return where the folders of the classes are: those to train on, those to validate on."""
    _check_folder(root)
    train = root / TRAIN
    # A folder with pictures alone is a class: of trains, beside cars and ships.
    if not (train.is_dir() and _class_folders(train)):
        return root, val
    if val is None:
        val = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    return train, val


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise UsageError(
            "{folder}: a file; name the folder that has a folder of pictures for each class",
            folder=str(folder),
        )
    if not folder.is_dir():
        raise UsageError("{folder}: no such folder", folder=str(folder))


def _class_folders(folder: Path) -> tuple[str, ...]:
    try:
        names = [
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        ]
    except OSError as error:
        raise UsageError(
            "{source}: this folder cannot be read ({reason})",
            source=source_name(folder),
            reason=error.strerror,
        ) from None
    # Names that are not valid text could not be written into a config.json.
    return tuple(sorted(name for name in names if source_name(name) == name))


def _samples(folder: Path, classes: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(
        Sample(path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()  # not every class need be among those to validate on
        for path in find_pictures(folder / name)
    )


def _validation(folder: Path, classes: tuple[str, ...]) -> tuple[Sample, ...]:
    _check_folder(folder)
    unknown = sorted(set(_class_folders(folder)) - set(classes))
    if unknown:
        raise UsageError(
            "{folder}: {count} of its folders are no classes of the training pictures: {unknown}; "
            "there are {known}",
            folder=str(folder),
            count=len(unknown),
            unknown=first_few(unknown),
            known=first_few(classes),
        )
    samples = _samples(folder, classes)
    if not samples:
        raise UsageError(
            "{folder}: no pictures in it; it should have one folder of pictures per class",
            folder=str(folder),
        )
    return samples
