"""The object cache: whole files or none, whatever happens to the folder."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lushan.cpu.cache import ObjectCache, cache_folder


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "deep" / "folder")
    assert cache.get("a") is None
    cache.put("a", b"object")
    assert cache.get("a") == b"object"
    assert [path.name for path in (tmp_path / "deep" / "folder").iterdir()] == ["a.o"]


@pytest.mark.parametrize("damage", [b"", b"foreign", b"\0" * 100])
def test_a_damaged_file_is_a_miss_and_is_mended(tmp_path: Path, damage: bytes) -> None:
    cache = ObjectCache(tmp_path)
    cache.put("a", b"object")
    (tmp_path / "a.o").write_bytes(damage)
    assert cache.get("a") is None
    cache.put("a", b"object")
    assert cache.get("a") == b"object"


def test_every_truncation_is_a_miss(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put("a", b"object")
    whole = (tmp_path / "a.o").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "a.o").write_bytes(whole[:size])
        assert cache.get("a") is None


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    for cache in (ObjectCache(None), ObjectCache(Path("/proc/nothing/here"))):
        cache.put("a", b"object")
        assert cache.get("a") is None
    (tmp_path / "file").write_bytes(b"")
    ObjectCache(tmp_path / "file").put("a", b"object")  # a file where a folder should be


POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no file modes")


@POSIX
def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ObjectCache(tmp_path / "deep" / "folder").put("a", b"object")
    finally:
        os.umask(before)
    folder = tmp_path / "deep" / "folder"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "a.o").stat().st_mode & 0o777 == 0o600


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o720, 0o702], ids=oct)
def test_what_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    cache = ObjectCache(tmp_path / "folder")
    cache.put("a", b"object")
    (tmp_path / "folder").chmod(mode)
    assert cache.get("a") is None
    cache.put("b", b"object")
    (tmp_path / "folder").chmod(0o755)
    assert cache.get("a") == b"object"
    assert cache.get("b") is None
    (tmp_path / "folder" / "a.o").chmod(0o622)
    assert cache.get("a") is None


@POSIX
def test_what_somebody_else_owns_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObjectCache(tmp_path / "folder")
    cache.put("a", b"object")
    someone = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: someone)
    assert cache.get("a") is None
    cache.put("b", b"object")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.o"]


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUSHAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None


ANSWER = """
import hashlib, sys
from lushan.cpu import code, executor
from lushan.cpu.machine_code import is_supported
from lushan.models.resnet_graph import INPUT, build
from support.random_graphs import random_weights
from support.small_models import NETWORK
import numpy as np
compiled, compile_kernel = [], code.CodeStore._compile
def counted(store, name, kernel):
    compiled.append(name)
    return compile_kernel(store, name, kernel)
code.CodeStore._compile = counted
graph = build(NETWORK)
program = executor.compile(graph, random_weights(graph, seed=3), threads=2)
(scores,) = program({INPUT: np.ones((1, 16, 16, 3), np.float32)}).values()
assert compiled or "llvmlite.binding" not in sys.modules or not is_supported()
print(len(compiled), hashlib.sha256(scores).hexdigest())
"""


def start(cache: str, **environment: str) -> subprocess.Popen[str]:
    """Start a fresh process that answers with the small network."""
    tests = Path(__file__).resolve().parents[1]
    search = os.pathsep.join([str(tests.parent), str(tests)])
    variables = {**os.environ, "PYTHONPATH": search, "LUSHAN_CACHE": cache, **environment}
    command = [sys.executable, "-c", ANSWER]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return how many kernels a process compiled, and its answer."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    count, answer = output.split()
    return int(count), answer


def test_engines_in_new_processes(tmp_path: Path) -> None:
    """Two at once into one folder, then one that compiles nothing, then damage."""
    folder = tmp_path / "cache"
    (one, answer), (other, second) = [end(p) for p in [start(str(folder)), start(str(folder))]]
    assert second == answer
    files = sorted(folder.iterdir())
    kernels = [path for path in files if path.name.startswith("k")]
    assert 0 < len(kernels) <= one + other
    assert {path.suffix for path in files} == {".o"}
    assert end(start(str(folder))) == (0, answer)
    whole = [path.read_bytes() for path in files]
    damages = (lambda data: data[: len(data) // 2], lambda data: b"foreign", lambda data: b"")
    for path, damage in zip(kernels, damages, strict=False):
        path.write_bytes(damage(path.read_bytes()))
    for path in set(files) - set(kernels):  # what LLVM said of the processor
        path.write_bytes(b"foreign")
    assert end(start(str(folder))) == (3, answer)
    assert [path.read_bytes() for path in files] == whole


def test_an_engine_works_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    nowhere = start("", HOME="/nonexistent", XDG_CACHE_HOME=str(tmp_path / "file" / "cache"))
    below_a_file = start(str(tmp_path / "file" / "cache"))
    (first, answer), (second, other) = end(nowhere), end(below_a_file)
    assert (first, answer) == (second, other)
    assert first > 0


def test_the_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUSHAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LUSHAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lushan"


def _write_many(folder: Path) -> None:
    cache = ObjectCache(folder)
    for _ in range(50):
        cache.put("a", b"object" * 1000)
        found = cache.get("a")
        assert found == b"object" * 1000


def test_processes_write_the_same_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.o"]
