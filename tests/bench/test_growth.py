"""The drawing of benchmarks/growth.py: well formed, every point in its panel, everything named."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

SVG = "{http://www.w3.org/2000/svg}"
SOURCE = Path(__file__).parents[2] / "benchmarks" / "growth.py"


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    specification = importlib.util.spec_from_file_location("growth", SOURCE)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:  # its dataclass looks for its module there
        patch.setitem(__import__("sys").modules, "growth", module)
        specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scale", [0.03, 1.0, 700.0])
def test_a_drawing(growth: ModuleType, scale: float) -> None:
    batches = {n: [(b, scale * (30 + 1 / b) / n) for b in growth.BATCHES] for n in growth.THREADS}
    sizes = {n: [(s, scale * s**2 / 1800 / n) for s in growth.SIZES] for n in growth.THREADS}
    root = ElementTree.fromstring(growth.draw("A<B", 224, batches, sizes, "20 & 5"))
    _, _, width, height = map(float, root.get("viewBox").split())
    texts = [text.text for text in root.iter(f"{SVG}text")]
    wanted = ["pictures in a batch", "rows and columns, pixels", "1 thread", "2 threads"]
    assert set(wanted) < set(texts)
    assert texts.count("milliseconds per picture") == 2
    assert texts[-1].startswith("A<B") and texts[-1].endswith("20 & 5")
    lines = [path.get("d") for path in root.iter(f"{SVG}path") if "line" in path.get("class")]
    assert [line.count("L") + 1 for line in lines] == [7, 7, 11, 11]
    markers = [*root.iter(f"{SVG}circle"), *root.iter(f"{SVG}rect")]
    assert len(markers) == 2 * (7 + 11)
    for number, line in enumerate(lines):
        places = [tuple(map(float, place)) for place in re.findall(r"([\d.]+) ([\d.]+)", line)]
        left = growth.LEFT + (number // 2) * (growth.WIDTH + 160)
        assert all(left <= x <= left + growth.WIDTH <= width for x, _ in places)
        assert all(growth.TOP <= y <= growth.TOP + growth.HEIGHT <= height for _, y in places)
        assert [x for x, _ in places] == sorted(x for x, _ in places)
        if number >= 2:  # a larger picture takes longer: higher up, with a smaller y
            assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
