"""Keeps compiled kernels of the tests apart from the user's, and shared between tests."""

from __future__ import annotations

import pytest

from lushan.cpu.target import LEVELS, Target, detect
from lushan.errors import UsageError


def _targets() -> list[Target]:
    found = []
    for level in LEVELS:
        try:
            found.append(detect(level))
        except UsageError:
            continue
    return found


@pytest.fixture(scope="session", params=_targets(), ids=lambda target: target.level)
def target(request: pytest.FixtureRequest) -> Target:
    """Return each instruction set that this machine has, or can pretend to have."""
    found: Target = request.param
    return found
