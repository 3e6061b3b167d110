"""How fast a network is trained, beside PyTorch: whole steps, in turn, in one run.

A step is forward, loss, backward and update on a batch of random pictures that is prepared
already: decoding and augmentation are not measured. Before any time counts, every setting of a
peer has made ``CHECKED_STEPS`` steps from the same weights, and its losses were ours. The second is
right only if gradients and update were: the learning rate is such that it differs from the first by
some percent. See docs/performance.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lushan.bench.disturbance import Disturbance
from lushan.bench.infer import OURS
from lushan.bench.rivals import fastest_setting
from lushan.bench.training_memory import peak_megabytes
from lushan.bench.training_peers import Lushan, Step, TrainingPeer, TrainingWorkload, felt_rate
from lushan.bench.turns import Progress, take_turns
from lushan.errors import BenchmarkError, LushanError, UsageError
from lushan.graph.verify import infer_types

CHECKED_STEPS = 3
LOSS_CHANGE = 0.03  # of the loss by the first step, about
LOSS_TOLERANCE = 1e-3  # relative
TRIAL_ROUNDS = 2


@dataclass(frozen=True)
class TrainingPeerReport:
    """One peer: milliseconds of a step; ``ratio`` is our median divided by its median.

    ``peak_megabytes`` is the most memory a fresh process of it held, None if not asked for.
    """

    version: str
    setting: str
    milliseconds: float
    minimum: float
    ratio: float
    peak_megabytes: float | None = None


@dataclass(frozen=True)
class TrainingReport:
    """What was measured: milliseconds are of one step, the median and the minimum of all.

    ``losses`` are our first ones, which every peer has had too, as far as ``LOSS_TOLERANCE``.
    ``cores_of_others`` is how many cores other processes kept busy meanwhile, None if unknown.
    ``best_ratio`` is our median divided by that of the fastest peer. ``peak_megabytes`` is the most
    memory that a fresh process held, in 2**20 bytes, None if not asked for. ``absent`` are peers
    that are not installed, ``refused`` the errors of those that were left out.
    """

    batch: int
    height: int
    width: int
    classes: int
    threads: int
    runs: int
    milliseconds: float
    minimum: float
    images_per_second: float
    losses: tuple[float, ...]
    peak_megabytes: float | None
    cores_of_others: float | None
    best_ratio: float | None
    peers: Mapping[str, TrainingPeerReport]
    absent: tuple[str, ...]
    refused: tuple[LushanError, ...]


def measure(
    workload: TrainingWorkload,
    *,
    runs: int = 15,
    peers: Sequence[TrainingPeer] = (),
    memory: bool = False,
    progress: Progress = lambda done, total: None,
) -> TrainingReport:
    """Return how fast ``workload`` is trained.

    Every contestant has ``runs`` turns. ``memory`` asks for the peak memory of each too, measured
    in a process of its own. Raises UsageError for numbers that cannot be, GraphError for pictures
    that are too small and for what cannot be trained.
    """
    if runs < 1:
        raise UsageError("runs should be 1 or more; received {value!r}", value=runs)
    infer_types(workload.graph, {workload.graph.inputs[0].name: workload.x.shape})
    workload = replace(workload, learning_rate=felt_rate(workload, LOSS_CHANGE))
    ours = Lushan()
    step = ours.prepare(workload, ours.settings[0])
    losses = _first_losses(step)
    versions = {peer.name: peer.available() for peer in peers}
    present = [peer for peer in peers if versions[peer.name]]
    rivals, refused = _rivals(present, workload, losses)
    disturbance = Disturbance()
    calls = {name: call for name, (_, call) in rivals.items()}
    seconds = take_turns({OURS: step, **calls}, runs, progress=progress)
    disturbed = disturbance.cores()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    reports = {
        name: TrainingPeerReport(
            version=versions[name] or "",
            setting=setting,
            milliseconds=1e3 * medians[name],
            minimum=1e3 * min(seconds[name]),
            ratio=medians[OURS] / medians[name],
        )
        for name, (setting, _) in rivals.items()
    }
    del step, calls, rivals  # their memory is not to be in the way
    own_peak = None
    if memory:
        own_peak = peak_megabytes(ours, ours.settings[0], workload)
        for peer in present:
            if peer.name in reports:
                peak = peak_megabytes(peer, reports[peer.name].setting, workload)
                reports[peer.name] = replace(reports[peer.name], peak_megabytes=peak)
    batch, height, width, _ = workload.x.shape
    return TrainingReport(
        batch=batch,
        height=height,
        width=width,
        classes=workload.classes,
        threads=workload.threads,
        runs=runs,
        milliseconds=1e3 * medians[OURS],
        minimum=1e3 * min(seconds[OURS]),
        images_per_second=batch / medians[OURS],
        losses=tuple(losses),
        peak_megabytes=own_peak,
        cores_of_others=disturbed,
        best_ratio=max((report.ratio for report in reports.values()), default=None),
        peers=reports,
        absent=tuple(name for name, version in versions.items() if version is None),
        refused=tuple(refused),
    )


def _rivals(
    peers: Sequence[TrainingPeer], workload: TrainingWorkload, losses: Sequence[float]
) -> tuple[dict[str, tuple[str, Step]], list[LushanError]]:
    """Return setting and step of the peers whose losses are ours, and the errors of the others."""
    rivals: dict[str, tuple[str, Step]] = {}
    refused: list[LushanError] = []

    def prepare(peer: TrainingPeer) -> dict[str, Step]:
        return {setting: peer.prepare(workload, setting) for setting in peer.settings}

    def check(name: str, step: Step) -> None:
        _check_losses(name, _first_losses(step), losses)

    for peer in peers:
        try:
            rivals[peer.name] = fastest_setting(
                peer.name, partial(prepare, peer), check, TRIAL_ROUNDS
            )
        except LushanError as error:
            refused.append(error)
    return rivals, refused


def _first_losses(step: Step) -> list[float]:
    return [step() for _ in range(CHECKED_STEPS)]


def _check_losses(name: str, losses: Sequence[float], expected: Sequence[float]) -> None:
    """Raise BenchmarkError unless ``losses`` are those of the same steps."""
    for step, (theirs, ours) in enumerate(zip(losses, expected, strict=True), 1):
        if not abs(theirs - ours) <= LOSS_TOLERANCE * abs(ours):  # NaN is no agreement
            raise BenchmarkError(
                "{peer} is left out: the loss of its step {step} is {received:.6g}, ours "
                "{expected:.6g}, so it does something else",
                peer=name,
                step=step,
                received=theirs,
                expected=ours,
            )
