"""Measuring a recognizer on a folder of labelled pictures: counts of top-1 and top-5.

The folder has one folder per class, called after the class's id in the model's labels
(``cat``, ``n02123045``). Some classes may be missing; a folder that is no class of the model is
refused by name, because its pictures would silently count as wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from lushan.errors import LushanError, UsageError
from lushan.image.files import find_pictures
from lushan.models.labels import Labels
from lushan.recognizer import Recognizer
from lushan.text import first_few


@dataclass(frozen=True)
class Evaluation:
    """Counts of pictures: how many were read, and how many of them were answered correctly.

    ``errors`` are the pictures that could not be read, as (path, reason); ``unlabelled`` is how
    many pictures lie outside the folders of the classes, where nobody says what is on them.
    """

    images: int
    top1: int
    top5: int
    errors: list[tuple[str, LushanError]] = field(default_factory=list)
    unlabelled: int = 0


def labelled_pictures(folder: Path, labels: Labels) -> list[tuple[Path, int]]:
    """Return every picture below ``folder`` with the index of its class.

    Raises UsageError when the folder is missing, has no pictures, or has a class folder that the
    model does not know.
    """
    if not folder.is_dir():
        raise UsageError("{folder}: no such folder", folder=str(folder))
    classes = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    indices = {name: index for index, name in enumerate(labels.names)}
    unknown = [path.name for path in classes if path.name not in indices]
    if unknown:
        raise UsageError(
            "{folder}: {count} of its folders are no classes of this model: {unknown}; "
            "its classes are {known}",
            folder=str(folder),
            count=len(unknown),
            unknown=first_few(unknown),
            known=first_few(labels.names),
        )
    pictures = [(path, indices[name.name]) for name in classes for path in find_pictures(name)]
    if not pictures:
        raise UsageError(
            "{folder}: no pictures in it; it should have one folder of pictures per class",
            folder=str(folder),
        )
    return pictures


def evaluate(
    recognizer: Recognizer, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Recognise every picture below ``folder`` and count the correct answers.

    ``progress`` is called with (done, all) after each picture. With fewer than five classes, top-5
    counts among all of them.
    """
    pictures = labelled_pictures(folder, recognizer.labels)
    top1 = top5 = 0
    errors: list[tuple[str, LushanError]] = []
    answers = recognizer.classify_many(path for path, _ in pictures)
    for done, ((path, index), answer) in enumerate(zip(pictures, answers, strict=True), 1):
        if isinstance(answer, LushanError):
            errors.append((str(path), answer))
        else:
            top1 += answer[0].index == index
            top5 += index in [prediction.index for prediction in answer]
        if progress:
            progress(done, len(pictures))
    return Evaluation(len(pictures) - len(errors), top1, top5, errors, _unlabelled(folder))


def _unlabelled(folder: Path) -> int:
    """Count the pictures that lie in ``folder`` itself, which come before those below it."""
    return len(list(takewhile(lambda path: path.parent == folder, find_pictures(folder))))
