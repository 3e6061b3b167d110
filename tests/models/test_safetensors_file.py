"""Safetensors files: whatever the system gives at a time is put together, and of one file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lushan.errors import ModelError
from lushan.models import safetensors_file
from lushan.models.safetensors_file import LARGE_ELEMENTS, open_safetensors, write_safetensors


def tensors(number: float) -> dict[str, np.ndarray]:
    """Return a tensor that is read at once and one that is read when asked for."""
    sizes = {"small": 2, "large": LARGE_ELEMENTS}
    return {name: np.full(size, number, np.float32) for name, size in sizes.items()}


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system reads otherwise")
def test_what_comes_in_pieces_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = tmp_path / "weights", np.arange(LARGE_ELEMENTS, dtype=np.float32)
    write_safetensors(path, {"large": expected})
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: read(file, [parts[0][:1001]], at))
    np.testing.assert_array_equal(open_safetensors(path)["large"], expected)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system reads otherwise")
def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    write_safetensors(path, tensors(1))
    weights = open_safetensors(path)

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, pytest.raises(ModelError, match=r"weights: .*output er"):
        patched.setattr(os, "preadv", fail)
        weights["large"]
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(ModelError, match=r"ends too early: 65[0-9]+ of 65536 bytes"):
        weights["large"]


def test_all_tensors_are_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file is put in its place between the two looks at it."""
    path, other = tmp_path / "weights", tmp_path / "other"
    write_safetensors(path, tensors(1))
    write_safetensors(other, tensors(2))
    read = safetensors_file.read_safetensors

    def replaced(*arguments: object, **options: object) -> dict[str, np.ndarray]:
        found = read(*arguments, **options)  # type: ignore[arg-type]
        if other.exists():
            other.replace(path)
        return found

    monkeypatch.setattr(safetensors_file, "read_safetensors", replaced)
    weights = open_safetensors(path)
    assert {name: weights[name][0] for name in weights} == {"small": 2, "large": 2}
