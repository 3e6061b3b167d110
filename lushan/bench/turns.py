"""Taking turns: several contestants measured in one run, so that they share its noise.

A machine's clock drifts, and its cores are shared with others: only times from the same minutes
can be compared. So every round gives each contestant one turn, and never are two at work at once.
Between turns all rest. Runtimes let their threads spin for a while after a call, to be quick at the
next one, and those threads would take the cores from the contestant that follows. Measured with two
threads on two cores, medians in milliseconds, ResNet-50 (PyTorch: forty of its convolutions):

=================================  =====  ===========  ===========  ===========
contestant, and who went before    alone  no rest      10 ms rest   50 ms rest
=================================  =====  ===========  ===========  ===========
OpenVINO after ONNX Runtime        38     61           52           39
PyTorch after ONNX Runtime         48     92           80           52
ONNX Runtime after OpenVINO        41     45           40           43
=================================  =====  ===========  ===========  ===========

Processes of their own do not help: without rest and with 10 ms, ONNX Runtime and OpenVINO took the
same times so, and PyTorch more. So all live in one process. Nobody's spinning is turned off: it is
part of their best setting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

REST_SECONDS = 0.05
TURN_SECONDS = 0.02

Progress = Callable[[int, int], None]


def take_turns(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    progress: Progress = lambda done, total: None,
) -> dict[str, list[float]]:
    """Return the seconds of every timed call of each contestant.

    A turn starts with a call that is not timed: it wakes the contestant's threads and brings its
    code and data back to the caches, as in a process that is at work. Then calls are timed until
    ``TURN_SECONDS`` are over, one at least.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for done in range(rounds):
        for name, call in contestants.items():
            time.sleep(REST_SECONDS)
            call()
            end = time.perf_counter() + TURN_SECONDS
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                seconds[name].append(now - start)
                if now >= end:
                    break
        progress(done + 1, rounds)
    return seconds
