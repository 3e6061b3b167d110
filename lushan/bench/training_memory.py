"""The most memory that training holds: a few steps in a fresh process that does nothing else.

The process gets the workload in a file and forgets it once the step is prepared, so what counts is
the interpreter, the framework, and what a step needs. Kernels are in the cache by then: to compile
them takes more. Linux only (/proc).
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from lushan.bench.training_peers import TrainingPeer, TrainingWorkload
from lushan.errors import BenchmarkError

STEPS = 3
_STATUS = Path("/proc/self/status")


def peak_megabytes(peer: TrainingPeer, setting: str, workload: TrainingWorkload) -> float:
    """Return the peak of resident memory in 2**20 bytes of ``peer`` training in a new process.

    Raises BenchmarkError where the system does not tell it, and when the process fails.
    """
    if not _STATUS.exists():
        raise BenchmarkError("peak memory is read from {path}, which is not here", path=_STATUS)
    with tempfile.TemporaryDirectory(prefix="lushan-bench-") as folder:
        path = Path(folder) / "workload"
        with path.open("wb") as file:
            pickle.dump((peer, setting, workload), file, protocol=5)
        child = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    if child.returncode:
        raise BenchmarkError(
            "{peer}: the process that measures its memory ended with status {status}: {reason}",
            peer=peer.name,
            status=child.returncode,
            reason=(child.stderr.strip().splitlines() or [""])[-1],
        )
    return float(child.stdout)


def main() -> None:
    """Do the steps of the workload in the file that is named, and print the peak."""
    with Path(sys.argv[1]).open("rb") as file:
        peer, setting, workload = pickle.load(file)  # of our own making, a moment ago
    step = peer.prepare(workload, setting)
    del workload
    for _ in range(STEPS):
        step()
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    main()
