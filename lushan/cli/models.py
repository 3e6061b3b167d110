"""``lushan models``: the models and architectures that can be named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lushan.cli.options import ReportFormat
from lushan.cli.streams import to_json
from lushan.models.config import ModelConfig
from lushan.models.model_folder import CONFIG
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from lushan.models.zoo import bundled_folder, bundled_names, natural_size


def models(
    format_: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print the list.")
    ] = ReportFormat.text,
) -> None:
    """List the bundled models and the known architectures."""
    rows: list[dict[str, Any]] = []
    for name, network in ARCHITECTURES.items():
        height, width = natural_size(network)
        counts = summarize(build(network), height, width)
        rows.append(
            {
                "architecture": name,
                "parameters": counts.parameters,
                "multiply_accumulates": counts.multiply_accumulates,
                "input_size": [3, height, width],
            }
        )
    bundled = [_bundled(name) for name in bundled_names()]
    if format_ is ReportFormat.json:
        print(to_json({"bundled": bundled, "architectures": rows}))
        return
    print(f"{'bundled':<18}{'classes':>7}  {'input':<9}{'top-1':>6}  {'top-5':>6}")
    for row in bundled:
        size = "×".join(map(str, row["input_size"][1:]))
        shares = "  ".join(f"{100 * row[key] / row['images']:>4.1f} %" for key in ("top1", "top5"))
        print(f"{row['name']:<18}{row['classes']:>7}  {size:<9}{shares}")
    print()
    print(f"architecture   {'parameters':>12}  {'GMAC':>7}  input")
    for row in rows:
        size = "×".join(map(str, row["input_size"][1:]))
        gmac = row["multiply_accumulates"] / 1e9
        print(f"{row['architecture']:<15}{row['parameters']:>12,}  {gmac:>7.3f}  {size}")


def _bundled(name: str) -> dict[str, Any]:
    """Return what the configuration of a bundled model says of it, without loading it."""
    config = ModelConfig.from_json_file(bundled_folder(name) / CONFIG)
    return {
        "name": name,
        "architecture": config.architecture,
        "classes": config.num_classes,
        "input_size": config.pretrained_cfg["input_size"],
        **config.extra["evaluation"],
    }
