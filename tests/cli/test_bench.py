"""``lushan bench``: the contract of its reports. What it measures is not asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lushan.bench import peers, training_peers, turns
from lushan.bench.peers import OnnxRuntime, Workload
from support.fake_peer import FakeTrainingPeer
from support.small_models import NETWORK


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "REST_SECONDS", 0)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)


class Absent(OnnxRuntime):
    name = "absent"

    def available(self) -> str | None:
        return None


class Broken(OnnxRuntime):
    name = "broken"

    def prepare(self, workload: Workload) -> dict[str, peers.Call]:
        raise RuntimeError("no such kernel")


def test_json_has_what_the_contract_says(run, model_folder: Path) -> None:
    options = ("--batch", 2, "--threads", 1, "--runs", 2, "--format", "json")
    result = run("bench", "infer", "--model", model_folder, *options)
    assert result.status == 0
    report = json.loads(result.out)
    assert report["model"] == str(model_folder)
    assert (report["batch"], report["threads"], report["runs"]) == (2, 1, 2)
    assert (report["height"], report["width"]) == (32, 32)
    assert report["milliseconds"] >= report["minimum"] > 0
    assert report["images_per_second"] == pytest.approx(2000 / report["milliseconds"])
    assert report["peers"] == {}
    assert report["weights"] == "the model's"
    assert report["cores_of_others"] is None or report["cores_of_others"] >= 0
    assert "layers" not in report


def test_peers_present_and_absent(run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", (OnnxRuntime(), Absent()))
    arguments = ("bench", "infer", "--model", model_folder, "--runs", 2, "--peers")
    report = json.loads(run(*arguments, "--format", "json").out)
    assert report["absent"] == ["absent"]
    peer = report["peers"]["onnxruntime"]
    assert peer["ratio"] == pytest.approx(report["milliseconds"] / peer["milliseconds"])
    assert report["best_ratio"] == peer["ratio"]
    text = run(*arguments).out
    assert f"onnxruntime {peer['version']}" in text
    assert "not here           absent" in text
    assert "ratio to the best" in text


def test_a_failing_peer_is_told_and_the_rest_is_still_measured(
    run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PEERS", (Broken(), OnnxRuntime()))
    arguments = ("bench", "infer", "--model", model_folder, "--runs", 1, "--peers", "-f", "json")
    result = run(*arguments)
    assert result.status == 1
    report = json.loads(result.out)
    assert list(report["peers"]) == ["onnxruntime"]
    [reason] = report["refused"]
    assert reason.startswith("broken is left out")
    assert result.err == f"lushan: {reason}\n"
    assert "不比较 broken" in run(*arguments, "--lang", "zh").err


def test_layers_and_size(run, model_folder: Path) -> None:
    arguments = ("bench", "infer", "--model", model_folder, "--runs", 1, "--layers")
    report = json.loads(run(*arguments, "--size", "16x24", "-f", "json").out)
    assert (report["height"], report["width"]) == (16, 24)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["fc"]["output_shape"] == [1, 3]
    assert set(layers["fc"]) == {
        "name",
        "operator",
        "output_shape",
        "milliseconds",
        "gflops",
        "share",
    }
    assert "convolution+batch_norm" in run(*arguments).out


def test_an_architecture_gets_random_weights_and_says_so(run) -> None:
    arguments = ("bench", "infer", "--model", "resnet20_cifar", "--runs", 1)
    assert "resnet20_cifar (random, seed 0), float32, batch 1 of 32×32" in run(*arguments).out
    report = json.loads(run(*arguments, "--format", "json").out)
    assert report["weights"] == "random, seed 0"
    assert report["gflops"] == pytest.approx(2 * 40.55e6 / report["milliseconds"] / 1e6, rel=0.01)


def test_an_architecture_on_int8(run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsuited(OnnxRuntime):
        name = "unsuited"
        takes_int8 = False

    monkeypatch.setattr(peers, "PEERS", (OnnxRuntime(), Unsuited()))
    arguments = ("bench", "infer", "--model", "resnet20_cifar", "--precision", "int8", "--runs", 1)
    result = run(*arguments, "--peers", "--layers", "--format", "json")
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert (report["precision"], report["unsuited"]) == ("int8", ["unsuited"])
    assert report["best_ratio"] == report["peers"]["onnxruntime"]["ratio"]
    assert report["peers"]["onnxruntime"]["precision"] == "int8"
    text = run(*arguments, "--peers").out
    assert "resnet20_cifar (random, seed 0), int8, batch 1" in text
    assert "not for int8       unsuited" in text
    assert "\nGOP/s " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", 0), "batch should be 1 or more; received 0"),
        (("--runs", -1), "runs should be 1 or more; received -1"),
        (("--threads", 0), "threads should be 1 or more; received 0"),
        (("--size", "224"), "size should be HEIGHTxWIDTH, such as 224x224; received '224'"),
        (("--size", "0x32"), "size should be HEIGHTxWIDTH"),
        (("--engine", "steam"), "engine should be one of"),
        (("--precision", "int8"), "computes on float32, not on int8: lushan quantize makes"),
        (("--precision", "int4"), "Invalid value for '--precision'"),
        (("--model", "resnet51"), "resnet51: no such file or folder"),
    ],
)
def test_a_wrong_call_exits_with_2(
    run, model_folder: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = run("bench", "infer", "--model", model_folder, *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err


# --- training -----------------------------------------------------------------------------------


def test_training_json_has_what_the_contract_says(run, model_folder: Path) -> None:
    options = ("--batch", 4, "--size", "16x24", "--threads", 1, "--runs", 2, "--format", "json")
    result = run("bench", "train", "--model", model_folder, *options)
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert report["model"] == "resnet"
    assert report["weights"] == f"of {model_folder}"
    assert (report["batch"], report["threads"], report["runs"]) == (4, 1, 2)
    assert (report["height"], report["width"], report["classes"]) == (16, 24, 3)
    assert report["milliseconds"] >= report["minimum"] > 0
    assert report["images_per_second"] == pytest.approx(4000 / report["milliseconds"])
    assert report["peers"] == {}
    assert report["best_ratio"] is report["peak_megabytes"] is None
    first, second, _ = report["losses"]
    assert first != second


def test_training_peers_present_and_absent(
    run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = (FakeTrainingPeer("twin"), FakeTrainingPeer("absent", version=None))
    monkeypatch.setattr(training_peers, "TRAINING_PEERS", peers)
    arguments = ("bench", "train", "--model", model_folder, "--batch", 2, "--runs", 1, "--peers")
    report = json.loads(run(*arguments, "--format", "json").out)
    assert report["absent"] == ["absent"]
    peer = report["peers"]["twin"]
    assert peer["ratio"] == pytest.approx(report["milliseconds"] / peer["milliseconds"])
    assert report["best_ratio"] == peer["ratio"]
    text = run(*arguments).out
    assert "one training step, 3 classes, batch 2 of 32×32" in text
    assert "twin 1.2" in text
    assert "not here           absent" in text
    assert "ratio to the best" in text
    assert "peak memory" not in text


def test_a_failing_training_peer_is_told_and_the_rest_is_still_measured(
    run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = (FakeTrainingPeer("wrong", factor=1.1), FakeTrainingPeer("good"))
    monkeypatch.setattr(training_peers, "TRAINING_PEERS", peers)
    arguments = ("bench", "train", "--model", model_folder, "--batch", 2, "--runs", 1, "--peers")
    result = run(*arguments, "-f", "json")
    assert result.status == 1
    report = json.loads(result.out)
    assert list(report["peers"]) == ["good"]
    [reason] = report["refused"]
    assert reason.startswith("wrong (default) is left out: the loss of its step 1 is")
    assert result.err == f"lushan: {reason}\n"
    assert "不比较 wrong (default)" in run(*arguments, "--lang", "zh").err


def test_training_memory(run, model_folder: Path) -> None:
    arguments = ("bench", "train", "--model", model_folder, "--batch", 2, "--runs", 1, "--memory")
    result = run(*arguments)
    assert result.status == 0, result.err
    assert re.search(r"peak memory, MiB   lushan \d\d", result.out)


def test_a_recipe_is_trained_as_it_says(run, tmp_path: Path) -> None:
    recipe = {
        "model": "resnet",
        "model_args": {**NETWORK.to_dict(), "classes": 7},
        "batch": 3,
        "size": 24,
        "seed": 5,
        "clip": 1.0,
        "label_smoothing": 0.1,
    }
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    arguments = ("bench", "train", "--config", path, "--runs", 1, "--format", "json")
    report = json.loads(run(*arguments, "--classes", 5).out)
    assert (report["model"], report["weights"]) == ("resnet", "random, seed 5")
    assert (report["batch"], report["height"], report["classes"]) == (3, 24, 5)
    path.write_text(json.dumps({"model": "resnet18", "batch": 3, "size": 24}))
    report = json.loads(run(*arguments, "--batch", 2, "--model", "resnet20_cifar").out)
    assert (report["model"], report["batch"], report["height"]) == ("resnet20_cifar", 2, 24)
    path.write_text(json.dumps({**recipe, "clip": -1}))
    wrong = run(*arguments)
    assert wrong.status == 2
    assert f"{path}: clip should be a number" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", 0), "batch should be a whole number from 1"),
        (("--runs", 0), "runs should be 1 or more; received 0"),
        (("--threads", 0), "threads should be 1 or more; received 0"),
        (("--size", "224"), "size should be HEIGHTxWIDTH, such as 224x224; received '224'"),
        (("--classes", 1), "classes should be a whole number from 2"),
        (("--model", "resnet51"), "resnet51: no such file or folder"),
        (("--config", "none.json"), "none.json: the settings cannot be read"),
    ],
)
def test_a_wrong_call_of_training_exits_with_2(
    run, arguments: tuple[object, ...], message: str
) -> None:
    result = run("bench", "train", "--model", "resnet20_cifar", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
