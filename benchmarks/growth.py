"""How the time of a picture grows with the batch, the size and the number of threads, as a plot.

Run: python benchmarks/growth.py [--model resnet50] [--rounds 2] [-o docs/growth.svg]
Batches of 1 to 64 pictures of the network's own size, and single pictures of 64 to 512 rows and
columns, each on one thread and on two, in turn; less than a minute at two rounds. It prints the
medians, and draws them. The drawing has no background: it is for light and dark pages.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from lushan.bench.disturbance import Disturbance
from lushan.bench.turns import take_turns
from lushan.models.zoo import random_model
from lushan.recognizer import Recognizer

BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
THREADS = (1, 2)

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #8c959f; stroke-opacity: .35 }
.guide { stroke: #6e7781; stroke-width: 1.5; fill: none; stroke-dasharray: 2 4 }
.a { stroke: #0969da; fill: #0969da } .b { stroke: #bc4c00; fill: #bc4c00 }
.line { fill: none; stroke-width: 2 } text.a, text.b { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #d0d7de }
  .a { stroke: #58a6ff; fill: #58a6ff } .b { stroke: #f0883e; fill: #f0883e }
  .line { fill: none } text.a, text.b { stroke: none }
}"""
WIDTH, HEIGHT, LEFT, TOP = 340, 250, 60, 40  # of a panel, and the room for what is written around
GUIDE_NOTE = "dotted: in proportion to the pixels"
Curve = Sequence[tuple[float, float]]
Curves = Mapping[int, Curve]  # by the number of threads


@dataclass(frozen=True)
class Axis:
    """Logarithmic numbers from the first tick to the last, on so many pixels from ``start``."""

    title: str
    ticks: Sequence[float]
    start: float
    length: float  # below 0: upwards

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return self.start + self.length * (math.log(value) - low) / (high - low)


def ticks_around(values: Sequence[float]) -> list[float]:
    """Return 1, 2, 5, 10, 20, …: all between the numbers, and one on either side."""
    every = [factor * 10.0**power for power in range(-4, 6) for factor in (1, 2, 5)]
    first = max(place for place, tick in enumerate(every) if tick <= min(values))
    last = min(place for place, tick in enumerate(every) if tick >= max(values))
    return every[first : last + 1]


def panel(title: str, x: Axis, y: Axis, curves: Mapping[str, Curve], guide: Curve = ()) -> str:
    """Return one plot: axes, a line with markers for each curve, its name at its end."""
    left, right, bottom, top = x.start, x.start + x.length, y.start, y.start + y.length
    parts = [f'<text x="{left}" y="{top - 16}" font-weight="bold">{escape(title)}</text>']
    for tick in y.ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x.ticks:
        at = x(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {bottom}V{top}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    middle, up = (left + right) / 2, (top + bottom) / 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 38}" text-anchor="middle">{escape(x.title)}</text>'
        f'<text transform="translate({left - 42} {up}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.title)}</text>"
    )
    if guide:
        line = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in guide)
        parts.append(f'<path class="guide" d="M{line}"/>')
    for (name, curve), colour in zip(curves.items(), "ab", strict=False):
        places = [(x(a), y(b)) for a, b in curve]
        line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        parts.append(f'<path class="line {colour}" d="M{line}"/>')
        parts += [_marker(colour, a, b) for a, b in places]
        a, b = places[-1]
        parts.append(f'<text class="{colour}" x="{a + 10:.1f}" y="{b + 4:.1f}">{name}</text>')
    return "\n".join(parts)


def _marker(colour: str, x: float, y: float) -> str:
    """Return a circle, or a square for the other curve: colour is not the only difference."""
    if colour == "a":
        return f'<circle class="a" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    return f'<rect class="b" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'


def draw(model: str, size: int, batches: Curves, sizes: Curves, note: str = "") -> str:
    """Return the drawing: milliseconds per picture by batch and by size, a curve per threads."""
    y_title = "milliseconds per picture"
    bottom = TOP + HEIGHT
    panels = []
    for number, (title, x_title, ticks, curves) in enumerate(
        (
            (f"Pictures of {size}×{size}", "pictures in a batch", BATCHES, batches),
            ("One picture", "rows and columns, pixels", (64, 128, 224, 512), sizes),
        )
    ):
        values = [value for curve in curves.values() for _, value in curve]
        x = Axis(x_title, ticks, LEFT + number * (WIDTH + 160), WIDTH)
        y = Axis(y_title, ticks_around(values), bottom, -HEIGHT)
        guide: Curve = ()
        if curves is sizes:
            # As many times the pixels, as many times the time: through the largest picture.
            edge, most = curves[THREADS[0]][-1]
            lowest = max(ticks[0], edge * math.sqrt(y.ticks[0] / most))
            guide = [(lowest, most * (lowest / edge) ** 2), (edge, most)]
        names = {f"{n} thread{'s' * (n > 1)}": curve for n, curve in curves.items()}
        panels.append(panel(title, x, y, names, guide))
    width, height = 2 * (WIDTH + 160), bottom + 80
    body = "\n".join(panels)
    what = "; ".join(filter(None, (model, GUIDE_NOTE, note)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(what)}</title>\n<style>{STYLE}\n</style>\n{body}\n"
        f'<text x="{LEFT}" y="{height - 12}">{escape(what)}</text>\n</svg>\n'
    )


def measure(model: str, rounds: int) -> tuple[int, Curves, Curves]:
    """Return the network's own size, and the curves by batch and by size for each threads."""
    loaded = random_model(model, seed=0)
    own = loaded.preprocessing.height
    recognizers = {threads: Recognizer(loaded, threads=threads) for threads in THREADS}
    random = np.random.default_rng(0)
    cases = {(batch, own) for batch in BATCHES} | {(1, size) for size in SIZES}
    arrays = {
        (batch, size): random.standard_normal((batch, size, size, 3), np.float32)
        for batch, size in sorted(cases)
    }
    calls: dict[tuple[int, int, int], Callable[[], object]] = {
        (threads, *case): lambda r=recognizer, x=x: r.scores(x)
        for case, x in arrays.items()
        for threads, recognizer in recognizers.items()
    }
    named = take_turns({repr(key): call for key, call in calls.items()}, rounds)
    milliseconds = {
        (threads, batch, size): 1e3 * statistics.median(named[repr((threads, batch, size))]) / batch
        for threads, batch, size in calls
    }
    batches = {n: [(batch, milliseconds[n, batch, own]) for batch in BATCHES] for n in THREADS}
    sizes = {n: [(size, milliseconds[n, 1, size]) for size in SIZES] for n in THREADS}
    for recognizer in recognizers.values():
        recognizer.close()
    return own, batches, sizes


def print_table(title: str, curves: Curves) -> None:
    print(f"{title:<20}" + "".join(f"{n} thread{'s' * (n > 1)}".rjust(12) for n in curves))
    for place, (value, _) in enumerate(curves[THREADS[0]]):
        print(f"{value:<20}" + "".join(f"{curve[place][1]:12.2f}" for curve in curves.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", help="an architecture")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--note", default="", help="what to write below: machine and date")
    parser.add_argument("-o", "--output", type=Path, help="of the drawing; none without it")
    options = parser.parse_args()
    disturbance = Disturbance()
    size, batches, sizes = measure(options.model, options.rounds)
    print_table(f"batch of {size}x{size}", batches)
    print_table("size of one", sizes)
    print(f"others kept {disturbance.cores() or 0:.2f} cores busy")
    if options.output:
        options.output.write_text(
            draw(options.model, size, batches, sizes, options.note), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
