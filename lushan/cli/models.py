"""``lushan models``: the models and architectures that can be named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lushan.cli.options import ReportFormat
from lushan.cli.streams import to_json
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from lushan.models.zoo import bundled_names, natural_size


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
    bundled = bundled_names()
    if format_ is ReportFormat.json:
        print(to_json({"bundled": bundled, "architectures": rows}))
        return
    print(f"bundled        {', '.join(bundled) or '–'}")
    print(f"architecture   {'parameters':>12}  {'GMAC':>7}  input")
    for row in rows:
        size = "×".join(map(str, row["input_size"][1:]))
        gmac = row["multiply_accumulates"] / 1e9
        print(f"{row['architecture']:<15}{row['parameters']:>12,}  {gmac:>7.3f}  {size}")
