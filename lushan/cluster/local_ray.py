"""How Ray is to behave when it is started for one job: nothing leaves, and nobody comes in.

Ray listens to the network and runs whatever it is sent. So a Ray of our own asks for a token that
only this job has. Ray reads these settings when it is imported.
"""

from __future__ import annotations

import os
import secrets
import sys


def settle() -> None:
    """Set the environment for a Ray of our own; whoever has imported Ray has settled that."""
    if "ray" in sys.modules:
        return
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )
