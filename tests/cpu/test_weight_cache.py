"""Packed weights in the cache folder: whole, sound and of the very same source, or none."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lushan.cpu import executor, weight_cache
from lushan.cpu.cache import PrivateFolder
from lushan.cpu.executor import CpuProgram
from lushan.cpu.packing import PanelWriter
from lushan.cpu.weight_cache import WeightCache
from lushan.models import safetensors_file
from lushan.models.resnet_graph import INPUT
from lushan.models.zoo import Model, load_model
from support.small_models import write_small_model

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "('direct', 'a')": [RANDOM.standard_normal(s, np.float32) for s in ((2, 3, 3, 8, 16), (2, 16))],
    "('linear', 'b')": [RANDOM.standard_normal(s, np.float32) for s in ((1, 7), (5,), (0,))],
}


@pytest.fixture(autouse=True)
def _everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep small weights too, and those of files that were written just now."""
    monkeypatch.setattr(weight_cache, "LEAST_BYTES", 1)
    monkeypatch.setattr(safetensors_file, "_SETTLED_SECONDS", -3600)


def cache_in(folder: Path, key: str = "key") -> WeightCache:
    return WeightCache(PrivateFolder(folder), key)


def holds(cache: WeightCache) -> bool:
    """Return whether the cache has the arrays, all of them, else none."""
    found = cache.read()
    if not found:
        return False
    assert list(found) == list(ARRAYS)
    for name, arrays in ARRAYS.items():
        assert [array.shape for array in found[name]] == [array.shape for array in arrays]
        assert all(np.array_equal(a, b) for a, b in zip(found[name], arrays, strict=True))
        assert all(array.ctypes.data % 64 == 0 for array in found[name])
        assert not any(array.flags.writeable for array in found[name])
    return True


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cache = cache_in(tmp_path / "deep" / "folder")
    assert not holds(cache)
    cache.write(ARRAYS)
    assert holds(cache)
    assert not holds(cache_in(tmp_path / "deep" / "folder", "another"))
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["key.weights"]


def test_every_truncation_and_every_changed_byte_is_a_miss(tmp_path: Path) -> None:
    cache, path = cache_in(tmp_path), tmp_path / "key.weights"
    cache.write(ARRAYS)
    whole = path.read_bytes()
    used = len(whole) - sum(-(-a.nbytes // 64) * 64 for group in ARRAYS.values() for a in group)
    described = whole[:used].rstrip(b"\0")
    places = [*range(0, len(described), 7), *range(used, len(whole), 501), len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place])
        assert not holds(cache)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert not holds(cache)
    for other in (b"", b"foreign", bytes(len(whole)), whole + b"\0", whole[:used] + bytes(used)):
        path.write_bytes(other)
        assert not holds(cache)
    cache.write(ARRAYS)
    assert holds(cache)


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (None, Path("/proc/nothing/here"), tmp_path / "file"):
        cache = WeightCache(PrivateFolder(folder), "key")
        cache.write(ARRAYS)
        assert not holds(cache)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no file modes")
def test_what_others_may_write_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    cache = cache_in(folder)
    cache.write(ARRAYS)
    assert (folder / "key.weights").stat().st_mode & 0o777 == 0o600
    (folder / "key.weights").chmod(0o622)
    assert not holds(cache)
    (folder / "key.weights").chmod(0o600)
    folder.chmod(0o777)
    assert not holds(cache)
    cache_in(folder, "other").write(ARRAYS)
    assert [path.name for path in folder.iterdir()] == ["key.weights"]


def test_small_weights_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "LEAST_BYTES", 2**20)
    cache_in(tmp_path / "folder").write(ARRAYS)
    assert not (tmp_path / "folder").exists()


def test_the_least_recently_used_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel.o").write_bytes(bytes(10**6))
    caches = [cache_in(tmp_path, str(number)) for number in range(4)]
    for number, cache in enumerate(caches[:3]):
        cache.write(ARRAYS)
        os.utime(tmp_path / f"{number}.weights", (number, number))
    each = (tmp_path / "0.weights").stat().st_size
    monkeypatch.setattr(weight_cache, "MOST_BYTES", 3 * each)
    assert holds(caches[0])  # which makes it the newest
    caches[3].write(ARRAYS)
    assert [holds(cache) for cache in caches] == [True, False, True, True]
    monkeypatch.setattr(weight_cache, "MOST_BYTES", 100)
    cache_in(tmp_path, "too large").write(ARRAYS)
    assert [holds(cache) for cache in caches] == [True, False, True, True]
    assert (tmp_path / "kernel.o").exists()


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    cache_in(tmp_path).write(ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_what_interrupted_writers_left_goes(tmp_path: Path) -> None:
    old, new = tmp_path / "writing-old", tmp_path / "writing-new"
    for path in (old, new):
        path.write_bytes(b"half a file")
    os.utime(old, (time.time() - 7200,) * 2)
    cache_in(tmp_path).write(ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.weights", "writing-new"]


def _write_many(folder: Path) -> None:
    weight_cache.LEAST_BYTES = 1
    for _ in range(30):
        cache_in(folder).write(ARRAYS)
        assert holds(cache_in(folder))


def test_processes_write_the_same_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.weights"]


# --- the engine -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUSHAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every weight that is packed."""
    written: list[int] = []
    write = PanelWriter.write

    def counted(self: PanelWriter, weight: object, packed: np.ndarray) -> None:
        written.append(packed.size)
        write(self, weight, packed)  # type: ignore[arg-type]

    monkeypatch.setattr(PanelWriter, "write", counted)
    return written


def program(model: Model, **options: object) -> CpuProgram:
    return executor.compile(model.graph, model.weights, **options)  # type: ignore[arg-type]


def scores(program: CpuProgram, size: int = 32) -> bytes:
    picture = np.random.default_rng(1).standard_normal((1, size, size, 3), np.float32)
    result = program({INPUT: picture})
    return next(iter(result.values())).tobytes()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.weights"))


def test_a_later_program_packs_nothing(model_folder: Path, folder: Path, packed: list[int]) -> None:
    expected = scores(program(load_model(model_folder)))
    assert packed
    assert len(files(folder)) == 1
    packed.clear()
    for threads in (1, 2):
        later = program(load_model(model_folder), threads=threads)
        assert scores(later) == expected
        assert scores(later) == expected
    assert not packed
    assert len(files(folder)) == 1


def test_damage_is_mended(model_folder: Path, folder: Path, packed: list[int]) -> None:
    expected = scores(program(load_model(model_folder)))
    (file,) = files(folder)
    whole = file.read_bytes()
    for damaged in (whole[:-64], whole[:-64] + bytes(63) + b"\1", b"", b"foreign"):
        packed.clear()
        file.write_bytes(damaged)
        assert scores(program(load_model(model_folder))) == expected
        assert packed
        assert file.read_bytes() == whole


def test_other_weights_at_the_same_path_are_others(
    tmp_path: Path, folder: Path, packed: list[int]
) -> None:
    model = write_small_model(tmp_path / "model")
    first = scores(program(load_model(model)))
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # the sign or so of one number, in place
    status = weights.stat()
    with weights.open("r+b") as file:
        file.write(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if never changed
    packed.clear()
    second = scores(program(load_model(model)))
    assert packed
    assert second != first
    assert len(files(folder)) == 2


def test_what_decides_the_bits_decides_the_file(
    tmp_path: Path, model_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(model_folder)
    program(model).prepare({INPUT: (1, 32, 32, 3)})
    program(model, winograd=False).prepare({INPUT: (1, 32, 32, 3)})
    assert len(files(folder)) == 2
    shutil.copytree(model_folder, tmp_path / "copy")
    program(load_model(tmp_path / "copy")).prepare({INPUT: (1, 32, 32, 3)})
    assert len(files(folder)) == 3
    monkeypatch.setattr(executor, "source_hash", lambda *packages: "another version")
    program(model).prepare({INPUT: (1, 32, 32, 3)})
    assert len(files(folder)) == 4


def test_what_is_folded_away_decides_the_file(model_folder: Path, folder: Path) -> None:
    """Batch norms with another epsilon make other weights, in a graph that looks the same then."""
    model = load_model(model_folder)
    nodes = (
        replace(node, attributes=(("epsilon", 0.1),)) if node.operator == "batch_norm" else node
        for node in model.graph.nodes
    )
    other = replace(model.graph, nodes=tuple(nodes))
    scores(program(model))
    answer = scores(executor.compile(other, model.weights))
    assert len(files(folder)) == 2
    shutil.rmtree(folder)
    assert scores(executor.compile(other, model.weights)) == answer


def test_what_may_still_change_is_not_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors_file, "_SETTLED_SECONDS", 3)
    scores(program(load_model(write_small_model(tmp_path / "model"))))
    assert not files(folder)


def test_inner_values_and_weights_of_no_file_are_not_kept(model_folder: Path, folder: Path) -> None:
    model = load_model(model_folder)
    scores(program(model, keep=("conv1",)))
    plain = {name: np.array(model.weights[name]) for name in model.weights}
    executor.compile(model.graph, plain).prepare({INPUT: (1, 32, 32, 3)})
    assert not files(folder)


def test_another_size_adds_what_it_needs(
    model_folder: Path, folder: Path, packed: list[int]
) -> None:
    """Which layers are computed as Winograd does depends on the size."""
    expected = {size: scores(program(load_model(model_folder)), size) for size in (4, 64)}
    packed.clear()
    for size, answer in expected.items():
        assert scores(program(load_model(model_folder)), size) == answer
    assert not packed
    assert len(files(folder)) == 1
