"""A part of a data set that lies in an archive: ``<name>/<part>/<class>/<picture>``."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path


def extract_part(archive: Path, part: str, each: int, root: Path) -> Path:
    """Write the first ``each`` pictures of every class to ``root/<class>`` and return ``root``."""
    names: dict[str, bytes] = {}
    with tarfile.open(archive, "r|xz") as entries:
        for entry in entries:
            if entry.isfile() and Path(entry.name).parts[1] == part:
                data = entries.extractfile(entry)
                assert data is not None
                names[entry.name] = data.read()
    written: Counter[str] = Counter()
    for name in sorted(names):
        *_, label, picture = Path(name).parts
        if written[label] < each:
            written[label] += 1
            (root / label).mkdir(exist_ok=True)
            (root / label / picture).write_bytes(names[name])
    return root
