"""Model folders: reading, writing, and what an interruption leaves behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from lushan.errors import ModelError
from lushan.models import model_folder
from lushan.models.checkpoint import read_model_folder, read_tensors, write_model_folder
from lushan.models.config import ModelConfig
from lushan.models.model_folder import check_target

CONFIG = ModelConfig("resnet18", 2, label_names=("猫", "dog"), extra={"global_pool": "avg"})
TENSORS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "fc.bias": np.ones(2, np.float32),
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"
    write_model_folder(folder, CONFIG, TENSORS)
    config, weights = read_model_folder(folder)
    assert config == CONFIG
    assert weights == folder / "model.safetensors"
    for name, tensor in read_tensors(weights).items():
        np.testing.assert_array_equal(tensor, TENSORS[name], strict=True)
    assert names(folder) == ["config.json", "model.safetensors"]
    assert "猫" in (folder / "config.json").read_text(encoding="utf-8")
    with safe_open(weights, "numpy") as file:
        assert file.metadata() == {"format": "pt"}  # timm asks for it


def test_views_and_other_types_are_written_as_their_numbers(tmp_path: Path) -> None:
    tensors = {
        "transposed": TENSORS["conv1.weight"].transpose(0, 2, 3, 1),
        "every other": np.arange(10, dtype=np.float64)[::2],
        "other byte order": np.arange(3, dtype=">f4"),
    }
    write_model_folder(tmp_path / "m", CONFIG, tensors)
    for name, tensor in read_tensors(tmp_path / "m/model.safetensors").items():
        np.testing.assert_array_equal(tensor, tensors[name].astype(np.float32), strict=True)


def test_half_precision(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "m", CONFIG, TENSORS, dtype="float16")
    tensors = read_tensors(tmp_path / "m/model.safetensors")
    assert {tensor.dtype.name for tensor in tensors.values()} == {"float16"}
    with pytest.raises(ModelError, match="tensor big cannot be written as float16"):
        write_model_folder(tmp_path / "n", CONFIG, {"big": np.full(1, 1e6)}, dtype="float16")
    assert not (tmp_path / "n").exists()


def test_numbers_that_could_not_be_loaded_are_not_written(tmp_path: Path) -> None:
    for bad in (np.array([np.nan]), np.array([1e300]), np.array([1])):
        with pytest.raises(ModelError, match="tensor bad cannot be written as float32"):
            write_model_folder(tmp_path / "m", CONFIG, {"bad": bad})
    assert names(tmp_path) == []


def test_a_configuration_that_json_cannot_hold(tmp_path: Path) -> None:
    for value in (float("nan"), np.float32(1), "\ud800"):
        config = ModelConfig("resnet18", 2, extra={"x": value})
        with pytest.raises(ModelError, match="configuration cannot be written as JSON"):
            write_model_folder(tmp_path / "m", config, TENSORS)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="this system has no file modes")
def test_whoever_may_read_the_configuration_may_read_the_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_model_folder(folder, CONFIG, TENSORS)
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


def test_a_place_that_may_not_be_written_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(Path(path)))
    with pytest.raises(ModelError, match="cannot be written: Permission denied"):
        check_target(tmp_path / "new" / "model")
    assert asked == [tmp_path]


def test_a_model_folder_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    write_model_folder(tmp_path, CONFIG, TENSORS)
    (tmp_path / "README.md").write_text("mine")
    newer = ModelConfig("resnet34", 5)
    write_model_folder(tmp_path, newer, {"fc.bias": np.zeros(5)})
    config, weights = read_model_folder(tmp_path)
    assert config == newer
    assert read_tensors(weights).keys() == {"fc.bias"}
    assert names(tmp_path) == ["README.md", "config.json", "model.safetensors"]


def test_other_folders_are_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ModelError, match="not empty and not a model folder"):
        write_model_folder(tmp_path, CONFIG, TENSORS)
    (tmp_path / "config.json").write_text('{"editor": "vim"}')
    with pytest.raises(ModelError, match="not empty and not a model folder"):
        write_model_folder(tmp_path, CONFIG, TENSORS)
    with pytest.raises(ModelError, match="a file, not a folder"):
        write_model_folder(tmp_path / "holiday.jpg", CONFIG, TENSORS)
    assert names(tmp_path) == ["config.json", "holiday.jpg"]


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    folder = tmp_path / "m"
    if existing:
        write_model_folder(folder, CONFIG, TENSORS)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(model_folder, "flush_file", full)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        write_model_folder(folder, ModelConfig("resnet34", 2), {"fc.bias": np.zeros(2)})
    if existing:
        assert read_model_folder(folder)[0] == CONFIG
        assert read_tensors(folder / "model.safetensors").keys() == TENSORS.keys()
        assert names(folder) == ["config.json", "model.safetensors"]
    else:
        assert names(tmp_path) == []


def test_never_weights_under_the_labels_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step is the last one, the folder is the old model, the new one, or says no."""
    steps = 0
    for stop in range(1, 10):
        folder = tmp_path / str(stop)
        write_model_folder(folder, CONFIG, TENSORS)
        steps = 0

        def step(method, *, stop=stop):
            def counted(*arguments: object, **options: object) -> object:
                nonlocal steps
                steps += 1
                if steps == stop:
                    raise KeyboardInterrupt
                return method(*arguments, **options)

            return counted

        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, step(getattr(Path, name)))
            try:
                write_model_folder(folder, ModelConfig("resnet34", 2), {"fc.bias": np.zeros(2)})
            except KeyboardInterrupt:
                pass
            else:
                break
        try:
            config, weights = read_model_folder(folder)
        except ModelError as error:
            assert "config.json is missing" in str(error)
            continue
        tensors = read_tensors(weights)
        expected = {"resnet18": TENSORS.keys(), "resnet34": {"fc.bias"}}
        assert tensors.keys() == expected[config.architecture]
    assert steps >= 5


@pytest.mark.parametrize("step", ["write_safetensors", "flush_file", "flush_folder"])
def test_after_a_killed_writer_the_next_one_completes_the_folder(tmp_path: Path, step: str) -> None:
    code = f"""
import os, signal, sys
import numpy as np
from lushan.models import model_folder
from lushan.models.config import ModelConfig
step = model_folder.{step}
def killed(*arguments):
    step(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
model_folder.{step} = killed
model_folder.write_model_folder(sys.argv[1], ModelConfig("resnet34", 2), {{"a": np.ones(2)}})
"""
    folder = tmp_path / "m"
    for _ in range(2):  # in a new folder, then over what the first left there
        killed = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
        assert killed.returncode == -signal.SIGKILL
    write_model_folder(folder, CONFIG, TENSORS)
    assert read_model_folder(folder)[0] == CONFIG
    assert names(folder) == ["config.json", "model.safetensors"]


def test_weights_without_a_configuration_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"someone's only copy")
    with pytest.raises(ModelError, match="not empty and not a model folder"):
        write_model_folder(tmp_path, CONFIG, TENSORS)
    # … unless the configuration that was to come with them lies there, unfinished.
    (tmp_path / ".config.json.123.tmp").touch()
    write_model_folder(tmp_path, CONFIG, TENSORS)
    assert names(tmp_path) == ["config.json", "model.safetensors"]


def test_two_writers_do_not_mix_their_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl", reason="folders cannot be locked here")
    first_has_removed_the_configuration, second_is_done = threading.Event(), threading.Event()
    replace = Path.replace

    def slow(path: Path, target: Path) -> Path:
        if path.name.startswith(".model") and not first_has_removed_the_configuration.is_set():
            first_has_removed_the_configuration.set()
            second_is_done.wait(0.5)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", slow)
    first = threading.Thread(target=write_model_folder, args=(tmp_path, CONFIG, TENSORS))
    first.start()
    first_has_removed_the_configuration.wait()
    write_model_folder(tmp_path, ModelConfig("resnet34", 2), {"fc.bias": np.zeros(2)})
    second_is_done.set()
    first.join()
    config, weights = read_model_folder(tmp_path)
    assert (config.architecture, *read_tensors(weights)) == ("resnet34", "fc.bias")
    assert names(tmp_path) == ["config.json", "model.safetensors"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="cannot be written: Not a directory"):
        write_model_folder(tmp_path / "file" / "model", CONFIG, TENSORS)


def test_the_weights_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: no such folder"):
        read_model_folder(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        read_model_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    with pytest.raises(ModelError, match="has no weights"):
        read_model_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "best.pth").write_bytes(b"x")
    assert read_model_folder(tmp_path)[1] == tmp_path / "best.pth"
    (tmp_path / "last.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"several files .*: best\.pth, last\.pth; keep one"):
        read_model_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert read_model_folder(tmp_path)[1] == tmp_path / "model.safetensors"


def test_reads_the_shared_folders(shared: Path) -> None:
    config, weights = read_model_folder(shared / "weights/resnet20-cifar10")
    assert config.architecture == "resnet20_cifar"
    assert weights.name == "model.th"
