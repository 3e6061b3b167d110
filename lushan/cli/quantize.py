"""``lushan quantize``: make an int8 model of a float32 one, and say how near it is.

Everything that can go wrong goes wrong before the model is written, and that happens last, whole or
not at all; then the report is put beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lushan.atomic_file import replacing
from lushan.cli.options import (
    LanguageOption,
    ReportFormat,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.progress import progress_bar
from lushan.cli.streams import to_json
from lushan.errors import LushanError, UsageError
from lushan.evaluation import Evaluation, evaluate, labelled_pictures
from lushan.image.files import find_pictures
from lushan.image.sources import source_name
from lushan.models.checkpoint import from_parameters
from lushan.models.model_folder import WEIGHTS, check_target, write_model_folder
from lushan.models.zoo import Model, load_model
from lushan.quantization.calibration import Calibration, calibrate
from lushan.quantization.comparison import Comparison, compare
from lushan.quantization.quantized_model import quantize_model
from lushan.quantization.report import Answers, to_html
from lushan.recognizer import Recognizer

COMPARED = 64  # of the calibration pictures both networks are run on again


class Method(str, Enum):
    """The ways of choosing ranges, ``quantization.ranges.METHODS``."""

    minmax = "minmax"
    percentile = "percentile"
    mse = "mse"


@dataclass(frozen=True)
class _Result:
    """What there is to tell; errors are (source, reason)."""

    model: str
    output: str
    method: str
    pictures: int
    sizes: tuple[int, int]
    comparison: Comparison
    answers: Answers | None
    errors: list[tuple[str, LushanError]]


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Bundled name, model folder, weights file, or hub name."
        ),
    ],
    calibrate_on: Annotated[
        Path,
        typer.Option("--calibrate", metavar="DIR", help="Pictures such as the model will see."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The model folder to write.")
    ],
    method: Annotated[
        Method, typer.Option("--method", help="How to choose the range of each value.")
    ] = Method.mse,
    pictures: Annotated[
        int, typer.Option("--pictures", help="Use so many pictures, spread evenly over DIR.")
    ] = 500,
    evaluate_on: Annotated[
        Path | None,
        typer.Option(
            "--evaluate", metavar="DIR", help="Count correct answers before and after, as evaluate."
        ),
    ] = None,
    report_to: Annotated[
        Path | None,
        typer.Option("--report", metavar="HTML", help="Write a page with every layer's error."),
    ] = None,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the result.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Make an int8 model: a quarter of the size, nearly the same answers.

    The ranges of its values are those that occur on the pictures in DIR, a flat or nested folder.
    """
    language = chosen_language(lang)
    with errors_told(language):
        original = load_model(model)
        _check(original, model, output, report_to, evaluate_on)
        sources = choose_pictures(calibrate_on, pictures)
        found = _calibrate(original, sources, threads)
        quantized = quantize_model(original, found, method.value)
        comparison = _compare(original, quantized, spread(sources, COMPARED), threads)
        counts = None
        if evaluate_on is not None:
            counts = _evaluate(original, quantized, evaluate_on, threads)
        write_model_folder(output, quantized.config, from_parameters(quantized.weights))
        errors = [(source_name(source), error) for source, error in found.errors]
        result = _Result(
            model=model,
            output=str(output),
            method=method.value,
            pictures=found.pictures,
            sizes=(original.weight_bytes, (output / WEIGHTS).stat().st_size),
            comparison=comparison,
            answers=None if counts is None else _answers(*counts),
            errors=errors if counts is None else errors + counts[1].errors,
        )
        if report_to is not None:
            write_text(report_to, _page(result, language))
    _tell(result, language, format_)
    if result.errors:
        raise typer.Exit(1)


def _calibrate(original: Model, sources: Sequence[Path], threads: int | None) -> Calibration:
    with progress_bar("calibrate") as progress:
        return calibrate(
            original,
            sources,
            threads=threads,
            progress=lambda done: progress(done, len(sources)),
        )


def _compare(
    original: Model, quantized: Model, sources: Sequence[Path], threads: int | None
) -> Comparison:
    with progress_bar("compare") as progress:
        return compare(
            original,
            quantized,
            sources,
            threads=threads,
            progress=lambda done: progress(done, len(sources)),
        )


def _tell(result: _Result, language: str, format_: ReportFormat) -> None:
    for _, error in result.errors:
        report(error, language)
    if format_ is ReportFormat.json:
        print(to_json(_record(result, language)))
    else:
        _print(result)


def choose_pictures(folder: Path, most: int) -> list[Path]:
    """Return at most so many of the pictures below ``folder``, spread evenly.

    Raises UsageError when there are none.
    """
    if most < 1:
        raise UsageError("pictures should be 1 or more; received {value!r}", value=most)
    if not folder.is_dir():
        raise UsageError("{folder}: no such folder", folder=str(folder))
    found = list(find_pictures(folder))
    if not found:
        raise UsageError("{folder}: no pictures in it to calibrate on", folder=str(folder))
    return spread(found, most)


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """Return at most ``most`` of the paths, evenly spread over all of them."""
    count = min(most, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


def _check(
    original: Model, name: str, output: Path, report_to: Path | None, evaluate_on: Path | None
) -> None:
    """Refuse now what would fail, or do harm, after long work."""
    here = Path(name)
    for path in (here, here.parent if here.is_file() else here):
        if path.exists() and output.exists() and output.samefile(path):
            raise UsageError(
                "{output}: the float32 model itself; write the int8 model to another folder",
                output=str(output),
            )
    check_target(output)
    if report_to is not None and not report_to.absolute().parent.is_dir():
        raise UsageError(
            "{path}: the report cannot be written there: no such folder", path=str(report_to)
        )
    if report_to is not None and report_to.is_dir():
        raise UsageError("{path}: a folder; name a file for the report", path=str(report_to))
    if evaluate_on is not None:
        labelled_pictures(evaluate_on, original.labels)


def _evaluate(
    original: Model, quantized: Model, folder: Path, threads: int | None
) -> tuple[Evaluation, Evaluation]:
    counts = []
    for title, model in (("float32", original), ("int8", quantized)):
        with Recognizer(model, threads=threads) as recognizer, progress_bar(title) as progress:
            counts.append(evaluate(recognizer, folder, progress=progress))
    return counts[0], counts[1]


def _answers(before: Evaluation, after: Evaluation) -> Answers:
    return Answers(before.images, (before.top1, before.top5), (after.top1, after.top5))


def write_text(path: Path, text: str) -> None:
    """Write the report whole or not at all; raises UsageError where it cannot be written."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "{path}: the report cannot be written: {reason}; the model is written",
            path=str(path),
            reason=error.strerror or error,
        ) from None


def _page(result: _Result, language: str) -> str:
    return to_html(
        result.comparison,
        model=result.model,
        method=result.method,
        pictures=result.pictures,
        sizes=result.sizes,
        answers=result.answers,
        lang=language,
    )


def _record(result: _Result, language: str) -> dict[str, Any]:
    """Return the result for programs; a ratio without an error is null."""
    values = [
        {
            "name": value.name,
            "signal_to_noise": value.signal_to_noise if value.noise else None,
            "scale": value.scale,
            "zero_point": value.zero_point,
        }
        for value in result.comparison.values
    ]
    return {
        "model": result.model,
        "output": result.output,
        "method": result.method,
        "images": result.pictures,
        "errors": [
            {"source": source, "error": error.message(language)} for source, error in result.errors
        ],
        "bytes": dict(zip(("float32", "int8"), result.sizes, strict=True)),
        "compared": result.comparison.pictures,
        "same_top1": result.comparison.same_top1,
        "values": values,
        "evaluation": result.answers and asdict(result.answers),
    }


def _print(result: _Result) -> None:
    before, after = (size / 1e6 for size in result.sizes)
    comparison = result.comparison
    print(f"calibrated on {result.pictures} pictures ({result.method})")
    print(f"weights       {before:.2f} MB → {after:.2f} MB")
    print(f"scores        {comparison.scores.signal_to_noise:.1f} dB signal to noise")
    print(f"same top-1    {comparison.same_top1} / {comparison.pictures}")
    if result.answers:
        answers = result.answers
        for rank, name in enumerate(("top-1", "top-5")):
            counts = f"{answers.float32[rank]} → {answers.int8[rank]} / {answers.pictures}"
            print(f"{name:<14}{counts}")
    if result.errors:
        print(f"failed        {len(result.errors)}")
    print(f"written to    {result.output}")
