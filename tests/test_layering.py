"""Imports point one way: the layers of the architecture, enforced by reading the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lushan

ROOT = Path(lushan.__file__).parent

# Each layer may import itself and the layers before it. Modules directly in lushan/ are layers too.
LAYERS = (
    {"record", "text", "translations"},
    {"atomic_file", "errors"},
    {"cores", "image", "reference"},
    {"graph"},
    {"passes"},
    {"models"},
    {"cpu"},
    {"engines"},
    {"quantization"},
    {"recognizer"},
    {"explain", "stream", "train"},
    {"tour"},
    {"bench", "cluster", "evaluation", "serve"},
    {"cli"},
)
# Layers side by side that must not know each other.
STRANGERS = (
    {"image", "reference"},
    {"explain", "stream", "train"},
    {"tour", "stream", "train"},
    {"bench", "cluster", "evaluation", "serve"},
)


def rank(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


def part_of(module: str) -> str:
    return module.split(".")[1]


def imports_of(path: Path) -> set[str]:
    """Return the lushan modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {
                f"{module}.{alias.name}" if module == "lushan" else module for alias in node.names
            }
    return {name for name in found if name.split(".")[0] == "lushan"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    for name in imports_of(path):
        other = part_of(name)
        if other == "__version__":
            continue
        assert rank(other) <= rank(own), f"{own} imports {name}"
        strangers = other != own and any({own, other} <= pair for pair in STRANGERS)
        assert not strangers, f"{own} and {other} should not know each other: {name}"


def test_nothing_in_a_layer_is_forgotten() -> None:
    known = set().union(*LAYERS)
    actual = {path.relative_to(ROOT).with_suffix("").parts[0] for path in modules()}
    assert actual == known
