"""Where the shared data is, fixtures that skip when it is absent, and a cache for the session."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from support.shared_data import extract_part
from support.small_models import write_small_model

# The user's cache is never touched, neither here nor in processes that tests start. An
# engine reads the variable when it first compiles.
os.environ["LUSHAN_CACHE"] = tempfile.mkdtemp(prefix="lushan-tests-")
atexit.register(shutil.rmtree, os.environ["LUSHAN_CACHE"], ignore_errors=True)

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Timings belong in benchmarks/: a slow example is no failure. Fixed seeds: a red test stays red.
settings.register_profile("lushan", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lushan")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data, or skip the test where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def photos(shared: Path) -> list[Path]:
    """Return the paths of the shared photographs."""
    return sorted((shared / "photos").glob("*.JPEG"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small model with random weights and three classes."""
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def cifar_part(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 100 test pictures of each CIFAR-10 class."""
    archive = shared / "data/cifar10.tar.xz"
    return extract_part(archive, "test", 100, tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="session")
def tiny_imagenet_part(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 5 validation pictures of each Tiny-ImageNet class."""
    archive = shared / "data/tiny-imagenet.tar.xz"
    return extract_part(archive, "val", 5, tmp_path_factory.mktemp("tiny"))
