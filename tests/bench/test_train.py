"""Reports on training: ratios, losses that must agree, absent and failing peers, memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lushan.bench import train
from lushan.bench.train import measure
from lushan.bench.training_memory import peak_megabytes
from lushan.bench.training_peers import TRAINING_PEERS, Lushan, PyTorch, TrainingWorkload, felt_rate
from lushan.errors import BenchmarkError, GraphError, UsageError
from lushan.models.initialize import initial_weights
from lushan.models.resnet_graph import build
from lushan.train.settings import Settings
from support.fake_peer import FakeTrainingPeer
from support.small_models import NETWORK


def workload(batch: int = 4, side: int = 16, **settings: Any) -> TrainingWorkload:
    """A small network on random pictures."""
    graph = build(NETWORK)
    random = np.random.default_rng(0)
    return TrainingWorkload(
        graph=graph,
        weights=initial_weights(graph, seed=1),
        x=random.standard_normal((batch, side, side, 3), np.float32),
        labels=random.integers(0, NETWORK.classes, batch),
        classes=NETWORK.classes,
        settings=Settings(batch=batch, **settings),
        threads=1,
    )


@pytest.mark.usefixtures("clock")
def test_the_report_adds_up() -> None:
    peers = [FakeTrainingPeer("slow", factor=1 + 1e-5), FakeTrainingPeer("quick")]
    report = measure(workload(6, 20), runs=2, peers=peers)
    assert (report.milliseconds, report.minimum) == pytest.approx((4, 2))
    assert report.images_per_second == pytest.approx(1500)
    ratios = {name: peer.ratio for name, peer in report.peers.items()}
    assert ratios == pytest.approx({"slow": 0.5, "quick": 2})
    assert report.best_ratio == pytest.approx(2)
    assert (report.peers["slow"].minimum, report.peers["slow"].version) == (pytest.approx(4), "1.2")
    assert (report.batch, report.height, report.width, report.classes) == (6, 20, 20, 3)
    assert (report.threads, report.runs) == (1, 2)
    assert report.peak_megabytes is None
    assert report.absent == report.refused == ()


@pytest.mark.usefixtures("clock")
def test_the_fastest_setting_of_a_peer_is_taken() -> None:
    peer = FakeTrainingPeer(settings=("plain", "the fastest", "faster"))
    report = measure(workload(), runs=1, peers=[peer])
    assert report.peers["fake"].setting == "the fastest"
    before = len(peer.settings) * (train.CHECKED_STEPS + 1)  # each was checked and tried
    assert set(peer.calls[:before]) == set(peer.settings)
    assert set(peer.calls[before:]) == {"the fastest"}


@pytest.mark.usefixtures("short_turns")
def test_a_peer_that_does_something_else_is_refused_by_name() -> None:
    peers = [
        FakeTrainingPeer("wrong", factor=1.01),
        FakeTrainingPeer("idle", learns=False),
        FakeTrainingPeer("lost", factor=float("nan")),
        FakeTrainingPeer("good"),
        FakeTrainingPeer("broken", failure=RuntimeError("no such kernel")),
        FakeTrainingPeer("missing", version=None, failure=RuntimeError("never asked")),
    ]
    report = measure(workload(), runs=1, peers=peers)
    assert list(report.peers) == ["good"]
    assert report.absent == ("missing",)
    first, second, _ = report.losses
    assert [str(error) for error in report.refused] == [
        f"wrong (default) is left out: the loss of its step 1 is {1.01 * first:.6g}, ours "
        f"{first:.6g}, so it does something else",
        f"idle (default) is left out: the loss of its step 2 is {first:.6g}, ours {second:.6g}, so "
        "it does something else",
        f"lost (default) is left out: the loss of its step 1 is nan, ours {first:.6g}, so it does "
        "something else",
        "broken is left out: it fails on this network (RuntimeError('no such kernel'))",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"freeze": ("conv1", "bn1", "layer1")},
        {"clip": 0.1, "label_smoothing": 0.1},
        {"momentum": 0.0, "weight_decay": 0.01},
    ],
    ids=["plain", "frozen", "clipped and smoothed", "without momentum"],
)
@pytest.mark.parametrize("peer", TRAINING_PEERS, ids=lambda peer: peer.name)
def test_real_peers_do_our_step(peer: Any, settings: dict[str, Any]) -> None:
    if peer.available() is None:
        pytest.skip(f"{peer.name} is not here")
    work = workload(**settings)
    ours = Lushan().prepare(work, "cpu")
    expected = [ours() for _ in range(6)]
    for setting in peer.settings:
        step = peer.prepare(work, setting)
        np.testing.assert_allclose([step() for _ in range(6)], expected, rtol=1e-4, err_msg=setting)
    report = measure(work, runs=1, peers=[peer])
    assert report.refused == ()
    assert report.peers[peer.name].setting in peer.settings


def test_what_the_settings_say_is_felt() -> None:
    """Else the losses above would agree because nobody heeds them."""

    def losses(**settings: Any) -> list[float]:
        step = Lushan().prepare(workload(**settings), "cpu")
        return [step() for _ in range(6)]

    plain = losses()
    for settings in (
        {"freeze": ("conv1", "bn1", "layer1")},
        {"clip": 0.1},
        {"label_smoothing": 0.1},
        {"momentum": 0.0},
        {"weight_decay": 0.1},
    ):
        assert abs(losses(**settings)[-1] / plain[-1] - 1) > 1e-3, settings


@pytest.mark.usefixtures("clock")
def test_memory_is_that_of_a_fresh_process() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell")
    works = [workload(batch, 32) for batch in (2, 256)]
    for work in works:
        Lushan().prepare(work, "cpu")()  # now the kernels are in the cache
    small, large = (peak_megabytes(Lushan(), "cpu", work) for work in works)
    held = 256 * 32 * 32 * 8 * 4 / 2**20  # of one of the values that the backward pass needs
    assert large > small + held
    if PyTorch().available() is not None:
        report = measure(works[0], runs=1, peers=[PyTorch()], memory=True)
        assert report.peak_megabytes == pytest.approx(small, rel=0.5)
        peak = report.peers["pytorch"].peak_megabytes
        assert peak is not None
        assert peak > 50


@pytest.mark.parametrize("settings", [{}, {"clip": 0.1}, {"freeze": ("layer2",)}], ids=str)
def test_the_first_step_is_felt_in_the_loss(settings: dict[str, Any]) -> None:
    work = workload(16, momentum=0.0, **settings)
    step = Lushan().prepare(replace(work, learning_rate=felt_rate(work, 0.01)), "cpu")
    first, second = step(), step()
    assert 1 - second / first == pytest.approx(0.01, rel=0.3)


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((tests, os.environ.get("PYTHONPATH", ""))))
    peer = FakeTrainingPeer("broken", failure=RuntimeError("no such kernel"))
    with pytest.raises(BenchmarkError, match=r"broken: the process .* 1: RuntimeError: no such"):
        peak_megabytes(peer, "default", workload())


def test_where_the_system_does_not_tell_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lushan.bench.training_memory._STATUS", tmp_path / "none")
    with pytest.raises(BenchmarkError, match=r"peak memory is read from .*none, which is not here"):
        peak_megabytes(Lushan(), "cpu", workload())


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="runs should be 1 or more; received 0"):
        measure(workload(), runs=0)
    with pytest.raises(GraphError, match=r"should"):
        measure(replace(workload(), x=np.zeros((2, 0, 16, 3), np.float32)))
