"""Model folders: ``config.json`` and ``model.safetensors`` side by side, as timm has them.

Writing never leaves half a model. Both files are first written in full under temporary names in
the same folder and flushed to disk; then the old configuration is taken away, the weights are
replaced, and the configuration comes last. Whoever is interrupted leaves the old model, the new
one, or a folder that says that its config.json is missing; never weights under wrong labels. The
next writing completes such a folder. Where the configuration stays the same, only the weights are
replaced, and the folder is a model at every moment. Of several writers at a time one goes after the
other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lushan.atomic_file import aside, flush_file, flush_folder
from lushan.errors import ModelError
from lushan.models.config import ModelConfig
from lushan.models.safetensors_file import write_safetensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SUFFIXES = (".safetensors", ".th", ".pth", ".pt", ".bin")


def read_model_folder(folder: str | Path) -> tuple[ModelConfig, Path]:
    """Return the configuration and the path of the weights, which are not read.

    ``model.safetensors`` is preferred; otherwise there must be exactly one file with a suffix of
    weights. Raises ModelError when either is missing or the choice is not clear.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError("{source}: no such folder", source=str(folder))
    if not (folder / CONFIG).is_file():
        raise ModelError(
            "{source}: not a model folder: config.json is missing; it says which network the "
            "weights are for",
            source=str(folder),
        )
    config = ModelConfig.from_json_file(folder / CONFIG)
    if (folder / WEIGHTS).is_file():
        return config, folder / WEIGHTS
    candidates = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not candidates:
        raise ModelError(
            "{source}: the model folder has no weights: expected model.safetensors, or one file "
            "ending in {suffixes}",
            source=str(folder),
            suffixes=", ".join(SUFFIXES),
        )
    if len(candidates) > 1:
        raise ModelError(
            "{source}: several files could be the weights: {names}; keep one, or name the file "
            "itself",
            source=str(folder),
            names=", ".join(path.name for path in candidates[:20]),
        )
    return config, candidates[0]


def write_model_folder(
    folder: str | Path,
    config: ModelConfig,
    tensors: Mapping[str, NDArray[np.generic]],
    *,
    dtype: Literal["float32", "float16"] = "float32",
    beside: Collection[str] = (),
) -> None:
    """Write a model folder; ``tensors`` are as a checkpoint has them (``from_parameters``).

    Floating-point tensors are stored as ``dtype``, those of int8 as they are. An existing model
    folder is replaced, other files in it are kept; any other folder that is not empty is refused,
    unless all it has is named in ``beside``. Raises ModelError, also for numbers that ``dtype``
    cannot hold.
    """
    folder = Path(folder)
    stored = _stored(tensors, dtype, str(folder))
    text = _json(config, str(folder))
    temporary = [aside(folder / name) for name in (WEIGHTS, CONFIG)]
    is_new = False
    try:
        is_new = not folder.exists()
        if not is_new:
            _check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder) as alone:
            _check_replaceable(folder, beside)
            write_safetensors(temporary[0], stored)
            temporary[1].write_bytes(text)
            flush_file(temporary[1])
            import shutil

            shutil.copymode(temporary[1], temporary[0])  # the library keeps others from reading
            if not _holds(folder / CONFIG, text):
                (folder / CONFIG).unlink(missing_ok=True)
            temporary[0].replace(folder / WEIGHTS)
            temporary[1].replace(folder / CONFIG)
            flush_folder(folder)
            for path in _leftovers(folder) if alone else []:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        _clean_up(temporary, folder if is_new else None)


def check_target(folder: str | Path) -> None:
    """Raise ModelError where ``write_model_folder`` would refuse to write, before long work."""
    folder = Path(folder)
    try:
        if folder.exists():
            _check_folder(folder)
            _check_replaceable(folder)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(folder, error) from None


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _json(config: ModelConfig, source: str) -> bytes:
    try:
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            "{source}: the configuration cannot be written as JSON: {reason}",
            source=source,
            reason=str(error),
        ) from None


def _stored(
    tensors: Mapping[str, NDArray[np.generic]], dtype: str, source: str
) -> dict[str, NDArray[np.generic]]:
    stored: dict[str, NDArray[np.generic]] = {}
    for name, tensor in tensors.items():
        if tensor.dtype == np.int8:  # of a quantised network
            stored[name] = np.asarray(tensor)
            continue
        with np.errstate(over="ignore"):  # reported below
            stored[name] = np.asarray(tensor).astype(dtype)
        if tensor.dtype.kind != "f" or not np.isfinite(stored[name]).all():
            raise ModelError(
                "{source}: tensor {name} cannot be written as {dtype}: it holds NaN, infinity, "
                "numbers out of range, or no floating-point numbers",
                source=source,
                name=name,
                dtype=dtype,
            )
    return stored


def _unwritable(folder: Path, error: OSError) -> ModelError:
    return ModelError(
        "{source}: the model cannot be written: {reason}",
        source=str(folder),
        reason=error.strerror or error,
    )


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise ModelError("{source}: a file, not a folder to write to", source=str(path))


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Wait until no one else writes to ``folder``; give False where it cannot be locked."""
    descriptor, alone = None, False
    with contextlib.suppress(ImportError, OSError):  # Windows; some network file systems
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        alone = True
    try:
        yield alone
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _leftovers(folder: Path) -> list[Path]:
    """Return the temporary files of writers, which were interrupted if no one is writing."""
    names = "|".join(map(re.escape, (WEIGHTS, CONFIG)))
    return [path for path in folder.iterdir() if re.fullmatch(rf"\.({names})\.\d+\.tmp", path.name)]


def _check_replaceable(folder: Path, beside: Collection[str] = ()) -> None:
    """Refuse to write among files that are not a model, such as someone's home folder."""
    leftovers = _leftovers(folder)
    others = {path.name for path in folder.iterdir()} - {path.name for path in leftovers}
    others.difference_update(beside)
    if not others or (leftovers and others == {WEIGHTS}):
        return
    try:
        ModelConfig.from_json_file(folder / CONFIG)
    except ModelError:
        raise ModelError(
            "{source}: the folder is not empty and not a model folder; name a new one",
            source=str(folder),
        ) from None


def _clean_up(temporary: list[Path], new_folder: Path | None) -> None:
    """Remove what a failure left; after a success there is nothing to remove."""
    for path in temporary:
        with contextlib.suppress(OSError):
            path.unlink()
    if new_folder is not None:
        with contextlib.suppress(OSError):  # not empty, or never made
            new_folder.rmdir()
