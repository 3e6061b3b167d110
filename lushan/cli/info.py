"""``lushan info``: what a network is made of, and what this installation is."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lushan.cli.options import (
    LanguageOption,
    ReportFormat,
    chosen_language,
    errors_told,
)
from lushan.cli.streams import one_line, to_json
from lushan.graph.verify import infer_types
from lushan.models.resnet import ARCHITECTURES, ResNet
from lushan.models.resnet_graph import INPUT, build
from lushan.models.summary import NetworkSummary, peak_activation_bytes, summarize
from lushan.models.zoo import bundled_names, load_model, natural_size


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="An architecture, bundled name, model folder, weights file or hub name.",
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="List every layer with its shape and counts.")
    ] = False,
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the report.")
    ] = ReportFormat.text,
    lang: LanguageOption = None,
) -> None:
    """Show what a network is made of; without MODEL, what this installation is."""
    with errors_told(chosen_language(lang)):
        record = _installation() if model is None else _network(model, layers=layers)
    if format_ is ReportFormat.json:
        print(to_json(record))
        return
    listed = record.pop("layers", [])
    for key, value in record.items():
        print(one_line(f"{key.replace('_', ' '):<24}{_shown(key, value)}"))
    if listed:
        print(f"\n{'layer':<28}{'operator':<24}{'output':>16}{'parameters':>12}{'MMAC':>10}")
    for layer in listed:
        shape = "×".join(map(str, layer["output_shape"]))
        print(
            f"{layer['name']:<28}{layer['operator']:<24}{shape:>16}"
            f"{layer['parameters']:>12,}{layer['multiply_accumulates'] / 1e6:>10.2f}"
        )


def _installation() -> dict[str, Any]:
    import numpy as np

    from lushan import __version__
    from lushan.cores import usable_cores
    from lushan.engines import ENGINES

    return {
        "lushan": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "engines": list(ENGINES),
        "bundled": bundled_names(),
        "architectures": list(ARCHITECTURES),
    }


def _network(name: str, *, layers: bool) -> dict[str, Any]:
    """Return the facts of an architecture, or of a model at the size of its own pictures."""
    record: dict[str, Any] = {"model": name}
    if name in ARCHITECTURES:
        network = ARCHITECTURES[name]
        record["architecture"] = name
        height, width = natural_size(network)
    else:
        model = load_model(name)
        network = model.network
        record["architecture"] = model.config.architecture
        record["precision"] = model.precision
        height, width = model.preprocessing.height, model.preprocessing.width
    record |= _facts(network, summarize(build(network), height, width))
    if record.get("precision") == "int8":
        shape = (1, height, width, 3)
        record["weight_bytes"] = model.weight_bytes
        types = infer_types(model.graph, {INPUT: shape})
        record["peak_activation_bytes"] = peak_activation_bytes(model.graph, types)
    if not layers:
        del record["layers"]
    return record


def _facts(network: ResNet, counts: NetworkSummary) -> dict[str, Any]:
    description = network.to_dict()
    facts = asdict(counts)
    size = [3, facts.pop("height"), facts.pop("width")]
    return {"input_size": size, "classes": network.classes, **facts, "description": description}


def _shown(key: str, value: Any) -> str:
    if key == "multiply_accumulates":
        return f"{value:,} ({value / 1e9:.2f} GMAC)"
    if key.endswith("_bytes"):
        return f"{value:,} ({value / 2**20:.1f} MiB)"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {item}" for name, item in value.items())
    if isinstance(value, list):
        return ("×" if key == "input_size" else ", ").join(map(str, value)) or "–"
    return f"{value:,}" if type(value) is int else str(value)
