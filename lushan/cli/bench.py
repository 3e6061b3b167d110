"""``lushan bench``: how fast this machine answers and trains, and where the time goes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lushan.cli.options import (
    DEFAULT_MODEL,
    LanguageOption,
    ModelOption,
    ReportFormat,
    ThreadsOption,
    chosen_language,
    errors_told,
    report,
)
from lushan.cli.progress import progress_bar
from lushan.engines import ENGINES
from lushan.errors import LushanError, UsageError
from lushan.models.resnet import ARCHITECTURES
from lushan.models.zoo import load_model, random_model
from lushan.quantization.quantized_model import quantize_on_noise
from lushan.recognizer import Recognizer

SEED = 0


class Precision(str, Enum):
    """What a network computes on, ``recognizer.PRECISIONS``."""

    float32 = "float32"
    int8 = "int8"


SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Size of the pictures; the model's own if not given."
    ),
]

bench = typer.Typer(name="bench", no_args_is_help=True, help="Measure speed on this machine.")


@bench.command()
def infer(
    model: ModelOption = DEFAULT_MODEL,
    batch: Annotated[int, typer.Option("--batch", help="Pictures at a time.")] = 1,
    threads: ThreadsOption = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help=f"One of {', '.join(ENGINES)}.")
    ] = None,
    size: SizeOption = None,
    runs: Annotated[int, typer.Option("--runs", help="Turns of each contestant.")] = 15,
    precision: Annotated[
        Precision | None,
        typer.Option(
            "--precision",
            help="What the model must compute on; random weights are quantised for int8.",
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Compare with the other runtimes installed here.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="List the time of every layer.")] = False,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the report.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
) -> None:
    """Measure recognition: milliseconds per batch, beside other runtimes with --peers.

    --model also takes an architecture such as resnet50, which gets random weights: they take as
    long; with --precision int8 it is quantised on random pictures. A peer that fails, or computes
    something else, is told on stderr and left out; the exit status is then 1.
    """
    from lushan.bench.infer import measure
    from lushan.bench.peers import PEERS

    language = chosen_language(lang)
    random = model in ARCHITECTURES
    with errors_told(language):
        chosen = {} if engine is None else {"engine": engine}
        pictures = None if size is None else _parse_size(size)
        loaded = random_model(model, seed=SEED) if random else load_model(model)
        if random and precision is Precision.int8:
            loaded = quantize_on_noise(loaded, seed=SEED, threads=threads)
        if precision is not None:
            chosen["precision"] = precision.value
        with (
            Recognizer(loaded, threads=threads, **chosen) as recognizer,
            progress_bar("bench") as progress,
        ):
            result = measure(
                recognizer,
                batch=batch,
                size=pictures,
                runs=runs,
                peers=PEERS if peers else (),
                layers=layers,
                progress=progress,
            )
    record = asdict(result)
    record["weights"] = f"random, seed {SEED}" if random else "the model's"
    if not layers:
        del record["layers"]
    _tell(record, result.refused, format_, language, _print)


@bench.command()
def train(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="An architecture, or a model to start from; resnet18."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Settings of lushan train; options go before them."
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option("--classes", help="Classes of the network; its own if not given."),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pictures of a step; 64.")] = None,
    threads: ThreadsOption = None,
    size: SizeOption = None,
    runs: Annotated[int, typer.Option("--runs", help="Turns of each contestant.")] = 10,
    peers: Annotated[
        bool, typer.Option("--peers", help="Compare with PyTorch, if it is installed here.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Measure the peak memory of each in a new process.")
    ] = False,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the report.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
) -> None:
    """Measure training: milliseconds of a whole step, beside PyTorch with --peers.

    A step is forward, loss, backward and update on pictures that are prepared already. A peer that
    fails, or whose losses are not ours, is told on stderr and left out; the exit status is then 1.
    """
    from lushan.bench.train import measure
    from lushan.bench.training_peers import TRAINING_PEERS
    from lushan.bench.training_workload import describe

    language = chosen_language(lang)
    with errors_told(language), progress_bar("bench") as progress:
        described = describe(
            model,
            config,
            classes=classes,
            batch=batch,
            size=None if size is None else _parse_size(size),
            threads=threads,
        )
        result = measure(
            described.workload,
            runs=runs,
            peers=TRAINING_PEERS if peers else (),
            memory=memory,
            progress=progress,
        )
    record = {"model": described.model, "weights": described.weights, **asdict(result)}
    _tell(record, result.refused, format_, language, _print_training)


def _tell(
    record: dict[str, Any],
    refused: Sequence[LushanError],
    format_: ReportFormat,
    language: str,
    print_text: Callable[[dict[str, Any]], None],
) -> None:
    """Print a report, and what was left out, which makes the exit status 1."""
    for error in refused:
        report(error, language)
    record["refused"] = [error.message(language) for error in refused]
    if format_ is ReportFormat.json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        print_text(record)
    if refused:
        raise typer.Exit(1)


def _parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "HxW"; raises UsageError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", text)
    if match is None:
        raise UsageError(
            "size should be HEIGHTxWIDTH, such as 224x224; received {value!r}", value=text
        )
    return int(match[1]), int(match[2])


def _print(record: dict[str, Any]) -> None:
    print(
        f"{record['model']} ({record['weights']}), {record['precision']}, "
        f"batch {record['batch']} of {record['height']}×{record['width']}, "
        f"threads {record['threads']}, runs {record['runs']}"
    )
    print(f"\n{'':<30}{'median ms':>10}{'least ms':>10}{'ratio':>7}  setting")
    _print_row(f"lushan {record['engine']}", record, "")
    for name, peer in record["peers"].items():
        note = f"{peer['ratio']:>7.2f}  {peer['setting']}"
        _print_row(f"{name} {peer['version']}", peer, note)
    unit = "GFLOP/s" if record["precision"] == "float32" else "GOP/s"
    print(f"\nimages per second  {record['images_per_second']:.1f}")
    unit = "GFLOP/s" if record["precision"] == "float32" else "GOP/s"
    print(
        f"{unit:<19}{record['gflops']:.1f}, {100 * record['peak_fraction']:.0f} % of the "
        f"{record['peak_gflops']:.0f} that multiply-adds alone reach"
    )
    if record["best_ratio"] is not None:
        print(f"ratio to the best  {record['best_ratio']:.2f} (below 1: lushan is faster)")
    if record["cores_of_others"] is not None:
        print(f"others' work       {record['cores_of_others']:.2f} cores busy meanwhile")
    if record["absent"]:
        print(f"not here           {', '.join(record['absent'])}")
    if record["unsuited"]:
        print(f"not for int8       {', '.join(record['unsuited'])}")
    if "layers" in record:
        print(f"\n{'layer':<24}{'output':>16}{'ms':>9}{unit:>9}{'share':>8}  operator")
    for layer in record.get("layers", ()):
        shape = "×".join(map(str, layer["output_shape"]))
        print(
            f"{layer['name']:<24}{shape:>16}{layer['milliseconds']:>9.3f}{layer['gflops']:>9.1f}"
            f"{100 * layer['share']:>6.1f} %  {layer['operator']}"
        )


def _print_row(name: str, times: dict[str, Any], note: str) -> None:
    print(f"{name:<30}{times['milliseconds']:>10.2f}{times['minimum']:>10.2f}{note}".rstrip())


def _print_training(record: dict[str, Any]) -> None:
    print(
        f"{record['model']} ({record['weights']}), one training step, {record['classes']} classes, "
        f"batch {record['batch']} of {record['height']}×{record['width']}, "
        f"threads {record['threads']}, runs {record['runs']}"
    )
    print(f"\n{'':<30}{'median ms':>10}{'least ms':>10}{'ratio':>7}  setting")
    _print_row("lushan", record, "")
    for name, peer in record["peers"].items():
        note = f"{peer['ratio']:>7.2f}  {peer['setting']}"
        _print_row(f"{name} {peer['version']}", peer, note)
    print(f"\nimages per second  {record['images_per_second']:.1f}")
    if record["best_ratio"] is not None:
        ratio = record["best_ratio"]
        print(
            f"ratio to the best  {ratio:.2f} (below 1: lushan is faster), {1 / ratio:.2f} × as fast"
        )
    if record["peak_megabytes"] is not None:
        peaks = {"lushan": record, **record["peers"]}
        told = (f"{name} {contestant['peak_megabytes']:.0f}" for name, contestant in peaks.items())
        print(f"peak memory, MiB   {', '.join(told)}")
    print(f"first losses       {', '.join(f'{loss:.5f}' for loss in record['losses'])}")
    if record["cores_of_others"] is not None:
        print(f"others' work       {record['cores_of_others']:.2f} cores busy meanwhile")
    if record["absent"]:
        print(f"not here           {', '.join(record['absent'])}")
