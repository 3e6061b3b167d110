"""How fast a recognizer answers, beside the other runtimes of this machine.

``measure`` runs the engine, a loop of multiply-adds and every peer in turn (``turns``), after it
has made sure that all compute the same network. Pictures are random numbers that are preprocessed
already: decoding is not measured. See docs/performance.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lushan.bench.disturbance import Disturbance
from lushan.bench.layers import LayerTime, layer_times
from lushan.bench.peak import Peak
from lushan.bench.peers import Call, Peer, Workload
from lushan.bench.rivals import fastest_setting
from lushan.bench.turns import Progress, take_turns
from lushan.errors import BenchmarkError, LushanError, UsageError
from lushan.graph.executor import Array
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from lushan.recognizer import Recognizer

# The largest relative error of a peer's scores that can still be the same network.
# Bytes: a sum near the middle between two becomes the other one elsewhere.
TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "bfloat16": 5e-2, "int8": 5e-2}
TRIAL_ROUNDS = 3
OURS = "lushan"


@dataclass(frozen=True)
class PeerReport:
    """One peer: milliseconds of a batch; ``ratio`` is our median divided by its median."""

    version: str
    setting: str
    precision: str
    milliseconds: float
    minimum: float
    ratio: float


@dataclass(frozen=True)
class Report:
    """What was measured: milliseconds are of one whole batch, the median and the minimum of all.

    ``precision`` is what the model computes on, "float32" or "int8". ``gflops`` counts two
    operations for each multiply-accumulate of the network, whatever the engine saves;
    ``peak_gflops`` is the limit of ``threads`` threads in the same minutes, on numbers of that
    precision. ``cores_of_others`` is how many cores other processes kept busy meanwhile, None if
    unknown. ``best_ratio`` is our median divided by that of the fastest peer of the same precision.
    ``absent`` are peers that are not installed, ``unsuited`` those that run no quantised network,
    ``refused`` the errors of those that were left out.
    """

    model: str
    precision: str
    engine: str
    batch: int
    height: int
    width: int
    threads: int
    runs: int
    milliseconds: float
    minimum: float
    images_per_second: float
    gflops: float
    peak_gflops: float
    peak_fraction: float
    cores_of_others: float | None
    best_ratio: float | None
    peers: Mapping[str, PeerReport]
    absent: tuple[str, ...]
    unsuited: tuple[str, ...]
    refused: tuple[LushanError, ...]
    layers: tuple[LayerTime, ...]


def measure(
    recognizer: Recognizer,
    *,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    runs: int = 15,
    peers: Sequence[Peer] = (),
    layers: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Return how fast ``recognizer`` answers ``batch`` pictures at a time.

    ``size`` is (height, width), None the model's own. Every contestant has ``runs`` turns.
    ``layers`` asks for the time of each layer too. Raises UsageError for numbers that cannot be
    and an engine that does not tell times of layers, GraphError for a size that is too small.
    """
    if batch < 1:
        raise UsageError("batch should be 1 or more; received {value!r}", value=batch)
    if runs < 1:
        raise UsageError("runs should be 1 or more; received {value!r}", value=runs)
    model = recognizer.model
    height, width = size or (model.preprocessing.height, model.preprocessing.width)
    x = np.random.default_rng(0).standard_normal((batch, height, width, 3), np.float32)
    workload = Workload(model.graph, model.weights, x, recognizer.threads)
    suited = [peer for peer in peers if model.precision == "float32" or peer.takes_int8]
    versions = {peer.name: peer.available() for peer in suited}
    rivals, refused = _prepare(
        [peer for peer in suited if versions[peer.name]],
        workload,
        recognizer.scores(x),
        model.precision,
    )
    contestants: dict[str, Callable[[], object]] = {
        OURS: lambda: recognizer.scores(x),
        **{rival.peer.name: rival.call for rival in rivals},
    }
    seconds, limit, disturbed = _run(contestants, model.precision, runs, progress)
    reports = {
        rival.peer.name: _report(rival, versions[rival.peer.name], seconds) for rival in rivals
    }
    median = statistics.median(seconds[OURS])
    operations = 2 * batch * summarize(build(model.network), height, width).multiply_accumulates
    gflops = operations / median / 1e9
    peak_gflops = recognizer.threads * limit / 1e9
    return Report(
        model=model.name,
        precision=model.precision,
        engine=recognizer.engine,
        batch=batch,
        height=height,
        width=width,
        threads=recognizer.threads,
        runs=runs,
        milliseconds=1e3 * median,
        minimum=1e3 * min(seconds[OURS]),
        images_per_second=batch / median,
        gflops=gflops,
        peak_gflops=peak_gflops,
        peak_fraction=gflops / peak_gflops,
        cores_of_others=disturbed,
        best_ratio=max(
            (peer.ratio for peer in reports.values() if peer.precision == model.precision),
            default=None,
        ),
        peers=reports,
        absent=tuple(name for name, version in versions.items() if version is None),
        unsuited=tuple(peer.name for peer in peers if peer not in suited),
        refused=tuple(refused),
        layers=layer_times(recognizer, x, runs) if layers else (),
    )


@dataclass(frozen=True)
class _Rival:
    """A peer that computes our network, with its fastest setting."""

    peer: Peer
    precision: str
    setting: str
    call: Call


def _run(
    contestants: Mapping[str, Callable[[], object]],
    precision: str,
    runs: int,
    progress: Progress,
) -> tuple[dict[str, list[float]], float, float | None]:
    """Return the seconds of each contestant, the limit of one thread and the cores of others."""
    peak = Peak(precision)
    limits: list[float] = []
    disturbance = Disturbance()
    seconds = take_turns(
        {"peak": lambda: limits.append(peak()), **contestants}, runs, progress=progress
    )
    return seconds, statistics.median(limits), disturbance.cores()


def _report(
    rival: _Rival, version: str | None, seconds: Mapping[str, Sequence[float]]
) -> PeerReport:
    median = statistics.median(seconds[rival.peer.name])
    return PeerReport(
        version=version or "",
        setting=rival.setting,
        precision=rival.precision,
        milliseconds=1e3 * median,
        minimum=1e3 * min(seconds[rival.peer.name]),
        ratio=statistics.median(seconds[OURS]) / median,
    )


def _prepare(
    peers: Sequence[Peer], workload: Workload, expected: Array, network: str
) -> tuple[list[_Rival], list[LushanError]]:
    """Return the peers that agree with ``expected`` scores, and the errors of the others.

    ``network`` is the precision of the network itself.
    """
    rivals: list[_Rival] = []
    refused: list[LushanError] = []
    for peer in peers:
        precision = peer.precision if network == "float32" else network

        def check(name: str, call: Call, precision: str = precision) -> None:
            _check_agreement(name, precision, call(), expected)

        try:
            setting, call = fastest_setting(
                peer.name, partial(peer.prepare, workload), check, TRIAL_ROUNDS
            )
        except LushanError as error:
            refused.append(error)
        else:
            rivals.append(_Rival(peer, precision, setting, call))
    return rivals, refused


def _check_agreement(name: str, precision: str, scores: Array, expected: Array) -> None:
    """Raise BenchmarkError unless ``scores`` are those of the same network."""
    if scores.shape != expected.shape:
        raise BenchmarkError(
            "{peer} is left out: its scores have shape {received}, ours {expected}",
            peer=name,
            received=list(scores.shape),
            expected=list(expected.shape),
        )
    error = float(np.abs(scores - expected).max() / np.abs(expected).max())
    if not error <= TOLERANCES[precision]:  # NaN is no agreement
        raise BenchmarkError(
            "{peer} is left out: its scores differ from ours by {error:.1e}, more than {limit:.0e}",
            peer=name,
            error=error,
            limit=TOLERANCES[precision],
        )
