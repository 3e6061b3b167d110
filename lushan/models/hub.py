"""Model folders from the Hugging Face Hub, through the library of that name (extra ``hub``).

The library downloads into its own cache, which other programs share, and answers from it when
there is no network. What is added here: both files come from one revision, every file is checked
against the hash that the hub gave it, a hub that does not answer is asked once, not for half a
minute, and every failure says what to do.

Left out on purpose: choosing among the many files of a repository, uploading, tokens (the library
reads its own: HF_TOKEN, or ``hf auth login``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lushan.errors import MissingExtraError, ModelError
from lushan.models.model_folder import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable

FALLBACK_WEIGHTS = "pytorch_model.bin"
_NAME = re.compile(r"(hf[-_]hub:)?(\w[\w.-]*/\w[\w.-]*)", re.ASCII)
_ANSWER_SECONDS = 5


def is_hub_name(name: str, *, prefixed: bool = False) -> bool:
    """Return whether ``name`` is ``owner/name``; ``prefixed``: only with ``hf-hub:`` before it."""
    match = _NAME.fullmatch(name)
    return match is not None and (match.group(1) is not None or not prefixed)


def download_model(
    name: str,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    cache: str | Path | None = None,
) -> Path:
    """Return the folder of the model ``owner/name`` (also ``hf-hub:owner/name``) in the cache.

    ``revision`` is a branch, tag or commit, ``endpoint`` another hub, ``cache`` another folder
    than the library's. Raises MissingExtraError without the library, and ModelError when the
    model cannot be had or a file does not match its hash.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            "{name}: not a name on the hub; expected owner/name, such as timm/resnet50.a1_in1k",
            name=name,
        )
    repository = match.group(2)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtraError(
            '{name}: models of the hub need an extra: pip install "lushan[hub]"', name=name
        ) from None

    local = not _answers(repository, revision, endpoint)

    def fetch(file: str, revision: str | None) -> Path:
        path = hf_hub_download(
            repository,
            file,
            revision=revision,
            endpoint=endpoint,
            cache_dir=cache,
            local_files_only=local,
        )
        return Path(path)

    with _quiet():
        config = _fetch(fetch, repository, CONFIG, revision)
    # Folders of the cache are named by commit: the weights must not come from a later one.
    commit = config.parent.name
    # What was chosen once is not asked for again, so that a cached model needs no network.
    choices = [config.with_name(file) for file in (WEIGHTS, FALLBACK_WEIGHTS)]
    cached = [path for path in choices if path.is_file()]
    try:
        weights = cached[0] if cached else _fetch(fetch, repository, WEIGHTS, commit)
    except _MissingFileError:
        weights = _fetch(fetch, repository, FALLBACK_WEIGHTS, commit)
    for path in (config, weights):
        _check_hash(path, repository)
    return config.parent


def _answers(repository: str, revision: str | None, endpoint: str | None) -> bool:
    """Ask the hub once whether it is there; left alone, the library asks again and again."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        address = hf_hub_url(repository, CONFIG, revision=revision, endpoint=endpoint)
        with _quiet():
            get_hf_file_metadata(address, timeout=_ANSWER_SECONDS)
    except errors.HfHubHTTPError as error:  # an answer too: what it means, _fetch says
        status = getattr(error.response, "status_code", 500)
        return status < 500 and status not in (408, 429)
    except Exception:  # of the library's HTTP library, which has changed twice
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own lines and bars off the terminal while small files are asked for."""
    import logging

    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            enable_progress_bars()


class _MissingFileError(ModelError):
    """The repository is there, and the file is not in it."""


def _fetch(
    fetch: Callable[[str, str | None], Path], repository: str, file: str, revision: str | None
) -> Path:
    """Fetch a file, and turn each way to fail into a message with a remedy."""
    from huggingface_hub import errors

    try:
        return fetch(file, revision)
    except errors.LocalEntryNotFoundError:
        raise ModelError(
            "{repository}: the hub cannot be reached and {file} is not in the cache; check the "
            "connection, or name a folder that holds the model",
            repository=repository,
            file=file,
        ) from None
    except errors.EntryNotFoundError:
        raise _MissingFileError(
            "{repository}: the repository has no {file}; lushan needs config.json and "
            "model.safetensors (or pytorch_model.bin)",
            repository=repository,
            file=file,
        ) from None
    except errors.GatedRepoError:
        raise ModelError(
            "{repository}: its owner asks for consent first: accept the terms on the page of the "
            "model, then log in with: hf auth login",
            repository=repository,
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            "{repository}: there is no revision {revision}",
            repository=repository,
            revision=revision,
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            "{repository}: no such model on the hub, or a private one; check the spelling, or log "
            "in with: hf auth login",
            repository=repository,
        ) from None
    # The library passes on the errors of its HTTP library, which has changed twice.
    except Exception as error:
        raise ModelError(
            "{repository}: {file} could not be downloaded: {reason}; try again, or name a folder "
            "that holds the model",
            repository=repository,
            file=file,
            reason=" ".join(str(error).split())[:300] or type(error).__name__,
        ) from None


def _check_hash(path: Path, repository: str) -> None:
    """Compare a file with its name in the cache, which is the hash that the hub gave it.

    Large files are named by SHA-256, small ones by git's SHA-1. Where the cache has no links
    (some Windows set-ups) the hash is not known; the library has checked the size.
    """
    if not path.is_symlink():
        return
    blob = path.parent / path.readlink()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return
    with blob.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    if digest.hexdigest() != blob.name:
        path.unlink()
        blob.resolve().unlink()  # newer caches share blobs: the link may have one more step
        blob.unlink(missing_ok=True)
        raise ModelError(
            "{repository}: {file} was damaged on its way or in the cache (its hash is wrong); it "
            "has been removed from the cache: try again",
            repository=repository,
            file=path.name,
        )
