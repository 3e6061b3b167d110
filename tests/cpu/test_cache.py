"""The object cache: whole files or none, whatever happens to the folder."""

from __future__ import annotations

import multiprocessing
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
