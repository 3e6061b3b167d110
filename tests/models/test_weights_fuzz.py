"""Damaged weights: an answer or a named error every time, in bounded memory.

``scripts/fuzz.py`` does the same for longer and on files of any size.
"""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from lushan.errors import ModelError
from lushan.models.checkpoint import read_tensors
from lushan.models.config import ModelConfig
from support.fuzzing import corruptions
from support.torch_files import state_dict_files

DATA = Path(__file__).parent / "data"
ARRAYS = {f"layer{i}.weight": np.arange(i + 12, dtype=np.float32) for i in range(4)}
FILES = {
    **state_dict_files(ARRAYS),
    "safetensors": save(ARRAYS),
    "zip of torch": (DATA / "zip.pt").read_bytes(),
    "sequential of torch": (DATA / "sequential.pt").read_bytes(),
}


@pytest.mark.parametrize("form", FILES)
def test_damaged_weights(tmp_path: Path, form: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(FILES[form])
    intact = read_tensors(path)
    refused = 0
    tracemalloc.start()
    try:
        for damaged in corruptions(FILES[form], count=80, seed=1):
            path.write_bytes(damaged)
            try:
                tensors = read_tensors(path)
            except ModelError as error:
                refused += 1
                assert str(path) in str(error)
                assert str(error).isprintable()
            else:
                assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())
                assert len(tensors) <= len(intact) + 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 20 < refused < 80  # some damage does not matter, some does
    assert peak < 8 * 2**20  # the files have a few KB, a zip directory may claim 4 MB


def test_damaged_configurations(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = ModelConfig(
        "resnet18", 3, label_names=("a", "b", "猫"), pretrained_cfg={"mean": [1] * 3}
    )
    data = json.dumps(config.to_dict(), ensure_ascii=False).encode()
    for damaged in corruptions(data, count=300, seed=2):
        path.write_bytes(damaged)
        try:
            ModelConfig.from_json_file(path)
        except ModelError as error:
            assert str(path) in str(error)
