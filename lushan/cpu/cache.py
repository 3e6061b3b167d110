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
from functools import cache
from pathlib import Path

_HASH_BYTES = 32
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


@cache
def generator_hash() -> str:
    """Return the hash of the source of the generators: every module of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_private(status: os.stat_result) -> bool:
    """Return whether only this user may write; where the system has no users, it is so."""
    if not hasattr(os, "geteuid"):
        return True
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.geteuid() and not others_write


class ObjectCache:
    """Bytes by key in a folder; every failure of the file system is a miss."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        """Return the bytes under ``key``, None if there are none that are whole."""
        if self._folder is None:
            return None
        try:
            if not _is_private(self._folder.stat()):
                return None
            with (self._folder / f"{key}.o").open("rb") as file:
                if not _is_private(os.fstat(file.fileno())):
                    return None
                data = file.read()
        except OSError:
            return None
        stored, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        return content if hashlib.sha256(content).digest() == stored else None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` under ``key``: written aside and renamed, so readers see it whole."""
        if self._folder is None:
            return
        import tempfile

        temporary: Path | None = None
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(self._folder.stat()):
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(content).digest() + content)
            temporary.replace(self._folder / f"{key}.o")
            temporary = None
        except OSError:
            pass
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()
