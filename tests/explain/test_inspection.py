"""Values are those that made the answer, by whatever name a user knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explain.conftest import NETWORKS, SIZE, Inspect, exact_values
from lushan.errors import PictureError, UsageError
from lushan.explain import Inspection
from lushan.quantization.calibration import calibrate
from lushan.quantization.quantized_model import quantize_model
from lushan.recognizer import Recognizer, load
from support.compare import relative_error


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_node_of_the_network_has_its_value(inspect: Inspect, name: str, engine: str) -> None:
    inspection = inspect(name, engine)
    exact = exact_values(inspection)
    values = inspection.values(inspection.nodes)
    assert tuple(values) == inspection.nodes
    for node, value in values.items():
        assert value.dtype == np.float32
        assert value.shape == inspection.shape(node) == exact[node].shape[1:]
        assert relative_error(value, exact[node][0]) <= 2e-5, node


@pytest.mark.parametrize("name", ["bottleneck", "basic", "leaky", "tanh"])
def test_values_of_the_folded_network_have_the_bits_of_the_answer(
    inspect: Inspect, name: str
) -> None:
    inspection = inspect(name)
    inspection.forget()
    convolutions = {n.name for n in inspection.graph.nodes if n.operator == "convolution"}
    folded = [node for node in inspection.nodes if node not in convolutions]
    together = inspection.values(folded)
    assert np.array_equal(together[inspection.output], inspection.scores)
    # What is asked for one by one, or together with what must be unfolded, has the same bits.
    for node in folded[::3]:
        inspection.forget()
        assert np.array_equal(inspection.values([node, *convolutions])[node], together[node])


def test_a_value_is_computed_once(inspect: Inspect, monkeypatch: pytest.MonkeyPatch) -> None:
    inspection = inspect("bottleneck")
    value = inspection.value("layer1.0.add")
    monkeypatch.setattr(inspection, "run", None)
    assert inspection.value("layer1.0.add") is value
    assert np.array_equal(inspection.value("input"), inspection.input[0])
    assert np.array_equal(
        inspection.input[0], inspection.model.preprocessing.normalize(inspection.pixels)
    )


def test_an_early_value_needs_no_later_weight(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    inspection.forget()
    ran = []
    with pytest.MonkeyPatch.context() as patch:
        run = inspection.run
        patch.setattr(inspection, "run", lambda *given: ran.append(given[0]) or run(*given))
        inspection.value("maxpool")
        inspection.value("layer1.0.conv2")
    weights = [{value.name.rpartition(".")[0] for value in graph.parameters} for graph in ran]
    assert weights[0] == {"conv1", "bn1"}
    assert not any(name.startswith(("layer2", "fc")) for name in weights[1])
    assert weights[2] == {"layer1.0.conv2"}  # folded away: it runs for itself


def test_answers_are_the_recognizers(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    expected = inspection.recognizer.classify(inspection.pixels, top=2, lang="zh")
    assert inspection.predictions(top=2, lang="zh") == expected
    assert inspection.report.width == SIZE[1]


def test_unknown_nodes_and_classes_are_named(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    with pytest.raises(UsageError, match=r"no layer 'layer1\.0\.con1'; the nearest are: layer1"):
        inspection.value("layer1.0.con1")
    with pytest.raises(UsageError, match=r"no layer 'fc\.weight'; the nearest"):
        inspection.value("fc.weight")
    with pytest.raises(UsageError, match="class 3: the classes are numbered 0 to 2"):
        inspection.check_class(3)
    with pytest.raises(UsageError, match=r"fc has no feature maps; .* is layer2\.0\.relu3"):
        inspection.check_map("fc")


def test_pictures_that_cannot_be_read_and_int8_models_are_refused(model_folder: Path) -> None:
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]
    with load(model_folder) as recognizer:
        with pytest.raises(PictureError, match="not a picture"):
            Inspection(recognizer, b"no picture")
        model = recognizer.model
        quantized = quantize_model(model, calibrate(model, pictures), "mse")
    with (
        Recognizer(quantized) as recognizer,
        pytest.raises(UsageError, match="is an int8 model"),
    ):
        Inspection(recognizer, pictures[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (500, 300)])
def test_any_picture_can_be_inspected(model_folder: Path, shape: tuple[int, int]) -> None:
    with load(model_folder) as recognizer:
        inspection = Inspection(recognizer, np.full((*shape, 3), 77, np.uint8))
        assert np.isfinite(inspection.value(inspection.last_maps)).all()
