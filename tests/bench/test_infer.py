"""Reports: ratios, agreement with peers, absent and failing peers, layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lushan
from lushan.bench import infer
from lushan.bench.infer import measure
from lushan.bench.layers import steps_of
from lushan.bench.peers import PEERS, Workload
from lushan.errors import UsageError
from lushan.graph.builder import GraphBuilder
from lushan.models.resnet_graph import build
from lushan.models.summary import summarize
from support.compare import relative_error
from support.fake_peer import FakePeer


@pytest.mark.usefixtures("clock")
def test_the_report_adds_up(recognizer: lushan.Recognizer) -> None:
    peers = [
        FakePeer("slow", factor=1 + 1e-5),
        FakePeer("quick"),
        FakePeer("coarse", precision="bfloat16", factor=1.02),
    ]
    report = measure(recognizer, batch=3, size=(20, 28), runs=2, peers=peers)
    assert (report.milliseconds, report.minimum) == pytest.approx((4, 2))
    assert report.images_per_second == pytest.approx(750)
    macs = summarize(recognizer.model.graph, 20, 28).multiply_accumulates
    assert report.gflops == pytest.approx(2 * 3 * macs / 0.004 / 1e9)
    assert report.peak_fraction == pytest.approx(report.gflops / report.peak_gflops)
    assert {name: peer.ratio for name, peer in report.peers.items()} == pytest.approx(
        {"slow": 0.5, "quick": 2, "coarse": 4}
    )
    assert report.best_ratio == pytest.approx(2)  # bfloat16 is another kind of answer
    assert report.peers["slow"].minimum == pytest.approx(4)
    assert report.peers["slow"].version == "1.2"
    assert (report.batch, report.height, report.width, report.runs) == (3, 20, 28, 2)
    assert report.absent == report.refused == report.layers == ()


@pytest.mark.usefixtures("clock")
def test_the_fastest_setting_of_a_peer_is_taken(recognizer: lushan.Recognizer) -> None:
    peer = FakePeer(settings=("plain", "the fastest", "faster"))
    report = measure(recognizer, runs=1, peers=[peer])
    assert report.peers["fake"].setting == "the fastest"
    assert set(peer.calls[:6]) == set(peer.settings)  # each was checked and tried
    assert set(peer.calls[6:]) == {"the fastest"}


def test_a_peer_that_computes_something_else_is_refused_by_name(
    recognizer: lushan.Recognizer,
) -> None:
    peers = [
        FakePeer("wrong", factor=1.01),
        FakePeer("coarse", precision="bfloat16", factor=1.1),
        FakePeer("lost", factor=float("nan")),
        FakePeer("good"),
        FakePeer("broken", failure=RuntimeError("no such kernel")),
        FakePeer("missing", version=None, failure=RuntimeError("never asked")),
    ]
    report = measure(recognizer, runs=1, peers=peers)
    assert list(report.peers) == ["good"]
    assert report.absent == ("missing",)
    assert [str(error) for error in report.refused] == [
        "wrong (default) is left out: its scores differ from ours by 1.0e-02, more than 1e-03",
        "coarse (default) is left out: its scores differ from ours by 1.0e-01, more than 5e-02",
        "lost (default) is left out: its scores differ from ours by nan, more than 1e-03",
        "broken is left out: it fails on this network (RuntimeError('no such kernel'))",
    ]


def test_scores_of_another_shape_are_refused(recognizer: lushan.Recognizer) -> None:
    class Short(FakePeer):
        def prepare(self, workload: Workload) -> Any:
            return {name: lambda: np.zeros((1, 2)) for name in self.settings}

    report = measure(recognizer, runs=1, peers=[Short()])
    [error] = report.refused
    assert "its scores have shape [1, 2], ours [1, 3]" in str(error)
    assert report.best_ratio is None


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("batch", [1, 4])
def test_real_peers_compute_our_network(
    recognizer: lushan.Recognizer, peer: Any, batch: int
) -> None:
    if peer.available() is None:
        pytest.skip(f"{peer.name} is not here")
    x = np.random.default_rng(0).standard_normal((batch, 24, 32, 3), np.float32)
    model = recognizer.model
    calls = peer.prepare(Workload(model.graph, model.weights, x, 2))
    for setting, call in calls.items():
        for _ in range(2):  # buffers are reused
            error = relative_error(call(), recognizer.scores(x))
            assert error < infer.TOLERANCES[peer.precision], setting
    report = measure(recognizer, batch=batch, runs=1, peers=[peer])
    assert report.refused == ()
    assert report.peers[peer.name].setting in calls


@pytest.mark.usefixtures("clock")
def test_only_those_that_take_it_compete_on_int8(quantized: lushan.Recognizer) -> None:
    peers = [
        FakePeer("slow", factor=1 + 1e-2),
        FakePeer("coarse", precision="bfloat16", takes_int8=False),
        FakePeer("wrong", factor=1.1),
    ]
    report = measure(quantized, size=(20, 28), runs=2, peers=peers)
    assert report.precision == "int8"
    assert report.peers["slow"].precision == "int8"
    assert report.best_ratio == pytest.approx(0.5)
    assert report.unsuited == ("coarse",)
    [error] = report.refused
    assert "wrong (default) is left out: its scores differ from ours by 1.0e-01" in str(error)
    macs = summarize(build(quantized.model.network), 20, 28).multiply_accumulates
    assert report.gflops == pytest.approx(2 * macs / 0.004 / 1e9)


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.takes_int8], ids=lambda p: p.name)
@pytest.mark.parametrize("batch", [1, 4])
def test_real_peers_compute_our_quantised_network(
    quantized: lushan.Recognizer, peer: Any, batch: int
) -> None:
    if peer.available() is None:
        pytest.skip(f"{peer.name} is not here")
    x = np.random.default_rng(0).standard_normal((batch, 24, 32, 3), np.float32)
    model = quantized.model
    calls = peer.prepare(Workload(model.graph, model.weights, x, 2))
    assert len(calls) % 2 == 0  # each setting with sums rounded and not
    for setting, call in calls.items():
        for _ in range(2):
            error = relative_error(call(), quantized.scores(x))
            assert error < infer.TOLERANCES["int8"], setting


def test_layers_of_a_quantised_network(quantized: lushan.Recognizer) -> None:
    layers = {layer.name: layer for layer in measure(quantized, runs=1, layers=True).layers}
    assert layers["layer2.0.relu1"].operator == "convolution+batch_norm+relu"
    assert layers["input.quantized"].operator == ""
    counts = summarize(build(quantized.model.network), 32, 32)
    counted = sum(layer.gflops * layer.milliseconds * 1e6 for layer in layers.values())
    assert counted == pytest.approx(2 * counts.multiply_accumulates)


def test_layers_are_told_with_their_share(recognizer: lushan.Recognizer) -> None:
    layers = measure(recognizer, batch=2, runs=2, layers=True).layers
    assert sum(layer.share for layer in layers) == pytest.approx(1)
    by_name = {layer.name: layer for layer in layers}
    first, last = by_name["layer2.0.relu1"], by_name["layer2.0.relu2"]
    assert first.operator == "convolution+batch_norm+relu"  # folded and fused
    assert last.operator == "convolution+batch_norm+add+relu"
    assert last.output_shape == (2, 16, 16, 16)
    assert first.gflops > 0
    assert by_name["avgpool"].gflops == 0
    counts = summarize(recognizer.model.graph, 32, 32)
    counted = sum(layer.gflops * layer.milliseconds * 1e6 for layer in layers)
    assert counted == pytest.approx(2 * 2 * counts.multiply_accumulates)


def test_fused_steps_are_charged_with_what_they_swallow() -> None:
    builder = GraphBuilder()
    x = builder.input("input", (None, None, None, 2))
    left = builder.convolution(x, "left", 2, kernel=1)
    right = builder.convolution(x, "right", 2, kernel=1)
    total = builder.node("add", (left, right), "sum")
    graph = builder.build(builder.node("relu", (total,), "relu"))

    def names(*steps: str) -> dict[str, list[str]]:
        parts = steps_of(graph, steps)
        return {step: [node.name for node in nodes] for step, nodes in parts.items()}

    assert names("left", "relu") == {"left": ["left"], "relu": ["right", "sum", "relu"]}
    assert names("pack", "relu") == {"pack": [], "relu": ["left", "right", "sum", "relu"]}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": 0}, UsageError, "batch should be 1 or more; received 0"),
        ({"runs": 0}, UsageError, "runs should be 1 or more; received 0"),
        ({"size": (0, 32)}, UsageError, "a batch should have shape"),
    ],
)
def test_numbers_that_cannot_be(
    recognizer: lushan.Recognizer, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure(recognizer, **options)


def test_an_engine_without_times_of_layers_says_so(
    recognizer: lushan.Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = recognizer._program

    class Silent:
        def __call__(self, inputs: Any, *, threads: int | None = None) -> Any:
            return program(inputs)

        def close(self) -> None:
            program.close()

    monkeypatch.setattr(recognizer, "_program", Silent())
    with pytest.raises(UsageError, match="'reference' does not tell the time of each layer"):
        measure(recognizer, runs=1, layers=True)


def test_profile_refuses_a_closed_program(recognizer: lushan.Recognizer) -> None:
    recognizer.close()
    with pytest.raises(UsageError, match="closed"):
        recognizer.profile(np.zeros((1, 32, 32, 3), np.float32))
