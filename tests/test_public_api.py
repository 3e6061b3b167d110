"""The names that users build on are pinned, and importing them is cheap."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lushan

NAMES = {
    "Frame",
    "GraphError",
    "LushanError",
    "MissingExtraError",
    "ModelError",
    "PictureError",
    "Prediction",
    "Predictions",
    "Recognizer",
    "UsageError",
    "__version__",
    "load",
}
# What nobody pays for who only wants to recognise a picture.
HEAVY = ("huggingface_hub", "onnx", "torch", "rich", "typer", "llvmlite", "urllib.request")


def test_exported_names_are_pinned() -> None:
    assert set(lushan.__all__) == NAMES
    assert all(hasattr(lushan, name) for name in NAMES)


def test_import_loads_no_heavy_module() -> None:
    code = f"import sys, lushan; print([name for name in {HEAVY!r} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [lushan.PictureError, lushan.UsageError, lushan.ModelError])
def test_errors_survive_pickling(kind: type[lushan.LushanError]) -> None:
    error = kind("{source}: the file is empty", source="a.jpg")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "a.jpg: the file is empty"


def test_errors_nest_in_one_language() -> None:
    inner = lushan.PictureError("{source}: the file is empty", source="a.jpg")
    outer = lushan.LushanError("failed ({reason})", reason=inner)
    assert "a.jpg: the file is empty" in str(outer)


def test_recognising_loads_only_what_it_needs(model_folder: Path) -> None:
    kinds = ("rules", "quantized_rules", "gradient_rules", "parameter_packing")
    code = f"""
import sys, lushan
lushan.load({str(model_folder)!r})
print([kind for kind in {kinds!r} if "lushan.cpu." + kind in sys.modules])
"""
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "['rules']\n"
