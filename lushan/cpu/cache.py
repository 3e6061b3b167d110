"""Object files of compiled kernels, kept between processes in the user's cache folder.

A file is named by the hash of all its code depends on: the kernel's specification, the source of
the generators, the versions of LLVM and llvmlite, and the processor. So nothing is ever stale, and
what other processes write is as good as one's own. A file carries the hash of its contents; one
that is cut short, foreign or damaged is ignored and written again. Where the folder cannot be
used, the engine works without it.

What is read here will be executed, and a hash keeps out accidents, not people. So the folder is
made for its owner alone, and a folder or file that somebody else owns or may write is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import BinaryIO

_HASH_BYTES = 32
_ASIDE = "writing-"  # what files that are not whole yet begin with
_HOUR = 3600
_FOLDER_VARIABLE = "LUSHAN_CACHE"


def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, None where the user has no home.

    ``$LUSHAN_CACHE``, else ``$XDG_CACHE_HOME/lushan``, else ``~/.cache/lushan``.
    """
    if named := os.environ.get(_FOLDER_VARIABLE):
        return Path(named)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "lushan"


def source_hash(*packages: str) -> str:
    """Return the hash of lushan's version and of the source of every module of some packages."""
    from lushan import __version__

    digest = hashlib.sha256(__version__.encode())
    for package in packages:
        digest.update(_package_hash(package))
    return digest.hexdigest()


@cache
def _package_hash(package: str) -> bytes:
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parents[1] / package).glob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.name} {len(source)} ".encode())
        digest.update(source)
    return digest.digest()


def _is_private(status: os.stat_result) -> bool:
    """Return whether only this user may write; where the system has no users, it is so."""
    if not hasattr(os, "geteuid"):
        return True
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and not others_write


class PrivateFolder:
    """Files that only this user may write; every failure of the file system is a miss."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def open(self, name: str) -> BinaryIO | None:
        """Return the file ``name``, open for reading; None if there is none to be trusted."""
        if self._folder is None:
            return None
        try:
            if not _is_private(self._folder.stat()):
                return None
            file = (self._folder / name).open("rb")
        except OSError:
            return None
        if _is_private(os.fstat(file.fileno())):
            return file
        file.close()
        return None

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Make a file of ``parts``: written aside and renamed, so readers see it whole."""
        if self._folder is None:
            return
        import tempfile

        temporary: Path | None = None
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(self._folder.stat()):
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=_ASIDE, delete=False) as file:
                temporary = Path(file.name)
                for part in parts:
                    file.write(part)
            temporary.replace(self._folder / name)
            temporary = None
        except OSError:
            pass
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()

    def touch(self, name: str) -> None:
        """Note that a file was used just now."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.utime(self._folder / name)

    def make_room(self, size: int, most: int, suffix: str) -> bool:
        """Remove files that end in ``suffix``, least recently used first, for one of ``size``.

        Afterwards they take at most ``most`` bytes, the new one included. Returns whether it may
        be written: not where it would take more than a quarter of what is free on the disk. What
        interrupted writers left goes too.
        """
        if self._folder is None or size > most:
            return False
        import shutil

        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            files = [(path, path.stat()) for path in self._folder.iterdir()]
            for path, status in files:
                if path.name.startswith(_ASIDE) and time.time() - status.st_mtime > _HOUR:
                    path.unlink(missing_ok=True)
            kept = [(status, path) for path, status in files if path.suffix == suffix]
            kept.sort(key=lambda entry: -entry[0].st_mtime)
            total = size
            for status, path in kept:
                total += status.st_size
                if total > most:
                    path.unlink(missing_ok=True)
            return 4 * size <= shutil.disk_usage(self._folder).free
        except OSError:
            return False


class ObjectCache:
    """Bytes by key in a folder, each file with the hash of its contents."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = PrivateFolder(folder)

    def get(self, key: str) -> bytes | None:
        """Return the bytes under ``key``, None if there are none that are whole."""
        file = self._folder.open(f"{key}.o")
        if file is None:
            return None
        try:
            with file:
                data = file.read()
        except OSError:
            return None
        stored, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        return content if hashlib.sha256(content).digest() == stored else None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` under ``key``."""
        self._folder.write(f"{key}.o", (hashlib.sha256(content).digest(), content))
