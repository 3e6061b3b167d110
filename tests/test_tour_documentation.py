"""docs/tour.md and docs/tour.zh.md: their figures and numbers can be made again, and are today's.

Most of the numbers are those of the mission, which tests/test_figures.py computes; what only these
pages say is computed here.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import lushan
from lushan.explain import receptive_field
from lushan.image.color import rgb_to_ycbcr, ycbcr_to_rgb
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize

ROOT = Path(__file__).resolve().parents[1]
PAGES = {name: ROOT / "docs" / name for name in ("tour.md", "tour.zh.md")}
NETWORK = build(ARCHITECTURES["resnet50"])

# The figures of the mission that both pages have, in these very characters.
FACTS = """
    6075|5.93|4050|3.96|(163, 171, 214)|[224, 224, 3]|[2, 224, 224, 3]|25,557,032|4.09|120.8
    483 GB|8 %|65.9 %|24.2 %|9.9 %|51.2 %|41.9 %|6.9 %|20000000 + 1|281|287|2048|4608|2×2|5×5
    [n, hi, wi, c] * [kn, kh, kw, c] → [n, ho, wo, kn]|A = hk|B = hb + d|−1
""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tour_figures", ROOT / "scripts/tour_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_of_the_mission_is_there(page: str) -> None:
    for fact in filter(None, map(str.strip, FACTS)):
        assert fact in text(page), fact


@pytest.mark.parametrize("page", PAGES)
def test_fifteen_chapters_and_their_truths(page: str) -> None:
    assert text(page).count("\n## ") == 15
    assert len(re.findall(r"^\*(The truth:|实情：)\*", text(page), re.MULTILINE)) == 7


@pytest.mark.parametrize("page", PAGES)
def test_numbers_of_these_pages_alone(page: str) -> None:
    dusk = np.array([[163, 171, 214]], np.uint8)
    there = rgb_to_ycbcr(dusk)
    assert np.abs(ycbcr_to_rgb(there).astype(int) - dusk).max() <= 1
    assert str(tuple(map(int, there[0]))) in text(page)
    for node in ("relu", "layer1.2.relu3", "layer4.2.relu3"):
        side = receptive_field(NETWORK, node).height
        assert f"{side}×{side}" in text(page)
    shapes = {value.name: value.type.shape for value in NETWORK.parameters}  # [OC, KH, KW, IC]
    longest = max(
        int(np.prod(shapes[node.inputs[1]][1:]))
        for node in NETWORK.nodes
        if node.operator == "convolution"
    )
    assert longest == 4608
    layers = summarize(NETWORK, 224, 224).layers
    assert layers[0].output_shape[-1] == 64


@pytest.mark.parametrize("page", PAGES)
def test_links_and_figures_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", text(page))
    assert len([target for target in targets if target.endswith(".webp")]) == 8
    for target in targets:
        assert (ROOT / "docs" / target).exists(), target


def test_the_figures_can_be_made_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tour_figures.py", "-o", str(tmp_path)])
    script.main()
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in (ROOT / "docs/tour").iterdir())
    for name in made:
        with Image.open(tmp_path / name) as new, Image.open(ROOT / "docs/tour" / name) as old:
            assert new.size == old.size
            fresh, kept = (np.asarray(one.convert("RGB"), np.float64) for one in (new, old))
        assert np.abs(fresh - kept).mean() < 4, f"{name} is not today's: scripts/tour_figures.py"


def test_the_mountain_is_recognised(script: ModuleType) -> None:
    with lushan.load() as recognizer:
        best = recognizer.classify(script.mountain(), top=1)[0]
    assert best.label == "n09193705"  # alp
