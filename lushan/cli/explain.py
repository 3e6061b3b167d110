"""``lushan explain``: a drawing, or the numbers, of where one answer came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer

from lushan.atomic_file import replacing
from lushan.cli.inputs import Input, expand
from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.outputs import check_writable
from lushan.cli.streams import one_line
from lushan.errors import PictureError, UsageError
from lushan.recognizer import Recognizer, load

if TYPE_CHECKING:
    from lushan.explain.inspection import Inspection

SUFFIXES = (".png", ".npy")


class Method(str, Enum):
    """The explanations that are one array."""

    cam = "cam"
    gradcam = "gradcam"
    deconvnet = "deconvnet"
    guided = "guided"
    occlusion = "occlusion"


# Which options a method listens to.
_OPTIONS = {
    Method.cam: {"--class"},
    Method.gradcam: {"--class", "--layer"},
    Method.deconvnet: {"--layer", "--channel"},
    Method.guided: {"--class", "--layer", "--channel"},
    Method.occlusion: {"--class"},
}


@dataclass(frozen=True)
class _Question:
    """What is asked: ``class_``, ``layer`` and ``channel`` are None where they are not given."""

    method: Method
    class_: str | None
    layer: str | None
    channel: int | None


@dataclass(frozen=True)
class _Found:
    """The array, how to draw it, and what it is about: the parts of one printed line."""

    numbers: npt.NDArray[np.floating]
    draw: Callable[[], npt.NDArray[np.uint8]]
    about: tuple[str, ...]


def explain(
    picture: Annotated[
        str, typer.Argument(metavar="PICTURE", help="A file, - for stdin, or an http(s) URL.")
    ],
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="cam, gradcam, occlusion: where the class was seen; "
            "deconvnet, guided: what excited a channel.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="A drawing .png, or the array .npy."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="C", help="Number, id or name of a class; the first answer's."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NODE", help="A layer, as lushan info --layers lists."),
    ] = None,
    channel: Annotated[
        int | None,
        typer.Option("--channel", metavar="N", help="A channel of it; the most active if none."),
    ] = None,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Show where in a picture the answer came from, or what a channel answered to."""
    language = chosen_language(lang)
    question = _Question(method, class_, layer, channel)
    with errors_told(language):
        _check(question, output)
        item = _one(picture)
        try:
            with load(model, threads=threads) as recognizer:
                found = _answer(recognizer, item, question, language)
        except PictureError as error:
            report(error, language)
            raise typer.Exit(1) from error
        _write(output, found)
    print(one_line("  ".join((item.name, method.value, *found.about, f"→ {output}"))))


def _check(question: _Question, output: Path) -> None:
    """Refuse now what would fail after long work."""
    given = {
        "--class": question.class_,
        "--layer": question.layer,
        "--channel": question.channel,
    }
    for option, value in given.items():
        if value is not None and option not in _OPTIONS[question.method]:
            raise UsageError(
                "{option} says nothing to {method}, which takes {known}",
                option=option,
                method=question.method.value,
                known=", ".join(sorted(_OPTIONS[question.method])),
            )
    if question.method is Method.guided and question.class_ is not None and question.layer:
        raise UsageError("guided starts at a class or at a layer: give --class or --layer")
    if question.channel is not None and question.layer is None:
        raise UsageError("--channel needs --layer: a channel of which layer?")
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            "{path}: name a file ending in {suffixes}: a drawing or an array",
            path=str(output),
            suffixes=", ".join(SUFFIXES),
        )
    check_writable(output)


def _one(word: str) -> Input:
    """Return the one picture that ``word`` names."""
    inputs = list(expand([word]))
    if len(inputs) != 1:
        raise UsageError(
            "{word}: {count} pictures; explain takes one", word=word, count=len(inputs)
        )
    return inputs[0]


def _answer(recognizer: Recognizer, item: Input, question: _Question, lang: str) -> _Found:
    from lushan.explain.inspection import Inspection  # other verbs start without it

    labels = recognizer.labels
    index = None if question.class_ is None else labels.find(question.class_)
    inspection = Inspection(recognizer, item.source() if callable(item.source) else item.source)
    if question.method is Method.deconvnet or (
        question.method is Method.guided and question.layer is not None
    ):
        return _channel(inspection, question)
    if index is None:
        index = inspection.predictions(top=1)[0].index
    answers = inspection.predictions(top=len(labels), lang=lang)
    answer = next(answer for answer in answers if answer.index == index)
    label = "" if answer.label == answer.description else f" ({answer.label})"
    about = (f"{answer.description}{label}", f"{100 * answer.probability:.2f} %")
    return _class(inspection, question, index, about)


def _channel(inspection: Inspection, question: _Question) -> _Found:
    """Project one channel of a layer back to the picture."""
    from lushan.explain import deconvnet, guided_backpropagation, strongest_channels
    from lushan.explain.drawing import pattern_picture

    layer = question.layer or inspection.last_maps
    inspection.check_map(layer)
    channel = question.channel
    if channel is None:
        channel = strongest_channels(inspection, layer, 1)[0].channel
    project = deconvnet if question.method is Method.deconvnet else guided_backpropagation
    found = project(inspection, layer, [channel])[0]
    about = (layer, f"channel {channel}", f"row {found.row}, column {found.column}")
    return _Found(found.pattern, partial(pattern_picture, found.pattern), about)


def _class(
    inspection: Inspection, question: _Question, index: int, about: tuple[str, ...]
) -> _Found:
    """Find where in the picture a class was seen."""
    from lushan.explain import cam, gradcam, guided_backpropagation, occlusion
    from lushan.explain.drawing import heat_map, pattern_picture

    if question.method is Method.guided:
        pattern = guided_backpropagation(inspection, inspection.output, [index])[0].pattern
        return _Found(pattern, partial(pattern_picture, pattern), about)
    if question.method is Method.occlusion:
        heat = occlusion(inspection, index).heat()
    elif question.method is Method.gradcam:
        seen = gradcam(inspection, index, question.layer)
        heat, about = seen.values, (seen.node, *about)
    else:
        heat = cam(inspection, index).values
    heat = heat.astype(np.float32)
    return _Found(heat, partial(heat_map, inspection.pixels, heat), about)


def _write(output: Path, found: _Found) -> None:
    """Write the drawing or the array, whole or not at all."""
    from PIL import Image

    try:
        with replacing(output) as temporary, temporary.open("wb") as file:
            if output.suffix.lower() == ".npy":
                np.save(file, found.numbers)
            else:
                Image.fromarray(found.draw()).save(file, format="PNG")
    except OSError as error:
        raise UsageError(
            "{path}: cannot be written: {reason}",
            path=str(output),
            reason=error.strerror or error,
        ) from None
