"""What processor this is, in LLVM's words: asked once, then kept beside the compiled kernels.

LLVM knows best, but loading it takes a fresh process longer than a picture. What it said is read
again where the system describes the processor, and itself, exactly as when LLVM was asked.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import llvmlite

from lushan.cpu.cache import ObjectCache, cache_folder
from lushan.cpu.locks import no_fork

_DESCRIPTION = Path("/proc/cpuinfo")
_MOST_BYTES = 16 * 2**10  # of the description: the first processor's, of hundreds perhaps
# Not clock rates, which change, nor numbers of cores, of which the first is not always the same.
_TELLING = re.compile(
    rb"^(?:vendor_id|cpu family|model|model name|stepping|microcode|flags)\s*:.*$", re.MULTILINE
)


class Host(NamedTuple):
    """A processor's name, the triple of its system, and the names of its features."""

    processor: str
    triple: str
    features: frozenset[str]


def host() -> Host:
    """Return this machine's, from LLVM or as it said before."""
    cache, key = ObjectCache(cache_folder()), _key()
    kept = cache.get(key) if key else None
    if kept is not None:
        processor, triple, *features = kept.decode().split("\n")
        return Host(processor, triple, frozenset(features))
    with no_fork:
        from lushan.cpu import llvm
    found = Host(*llvm.host())
    if key:
        cache.put(key, "\n".join([*found[:2], *sorted(found.features)]).encode())
    return found


def _key() -> str | None:
    """Return a hash of all the system says, None where it does not say enough."""
    try:
        with _DESCRIPTION.open("rb") as file:
            first = file.read(_MOST_BYTES).partition(b"\n\n")[0]
        system = repr(tuple(os.uname()))
    except (OSError, AttributeError):
        return None
    lines = _TELLING.findall(first)
    if not any(line.startswith(b"flags") for line in lines):
        return None
    parts = (llvmlite.__version__.encode(), system.encode(), *lines)
    return "host" + hashlib.sha256(b"\n".join(parts)).hexdigest()[:40]
