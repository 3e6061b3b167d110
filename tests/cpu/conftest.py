"""Every test that takes ``target`` runs once for each instruction set."""

from __future__ import annotations

import pytest

from lushan.cpu.target import Target
from support.native_tasks import targets


@pytest.fixture(scope="session", params=list(targets()), ids=lambda target: target.level)
def target(request: pytest.FixtureRequest) -> Target:
    """Return each instruction set that this machine has, or can pretend to have."""
    found: Target = request.param
    return found
