"""CAM and contributions add up to the score; Grad-CAM is what its definition and PyTorch say."""

from __future__ import annotations

import numpy as np
import pytest

from explain.conftest import Inspect
from explain.definition import send_back as defined
from lushan.errors import UsageError
from lushan.explain import cam, contributions, gradcam
from lushan.explain.projections import send_back
from lushan.models.onnx_export import to_nchw, to_nhwc
from support.compare import relative_error

NETWORKS = ["bottleneck", "basic", "plain"]
OTHERS = ["leaky", "prelu", "sigmoid", "tanh"]


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize("name", NETWORKS + OTHERS)
def test_cam_and_contributions_add_up_to_the_score(
    inspect: Inspect, name: str, engine: str
) -> None:
    inspection = inspect(name, engine)
    size = np.abs(inspection.scores).max()
    for index, score in enumerate(inspection.scores):
        votes = contributions(inspection, index)
        seen = cam(inspection, index)
        assert abs(votes.terms.sum() + votes.bias - score) <= 1e-5 * size
        assert abs(seen.values.sum() + votes.bias - score) <= 1e-4 * size
        assert seen.node == inspection.last_maps
        assert seen.values.shape == inspection.shape(seen.node)[:2]
        # Every place and every feature has its own term.
        maps = inspection.value(seen.node).astype(np.float64)
        terms = votes.weights * maps / maps[..., 0].size
        assert np.allclose(terms.sum(axis=2), seen.values, atol=1e-6 * size)
        assert np.allclose(terms.sum(axis=(0, 1)), votes.terms, atol=1e-5 * size)


def test_the_strongest_features_are_in_order(inspect: Inspect) -> None:
    votes = contributions(inspect("bottleneck"), 1)
    strongest = votes.strongest(5)
    sizes = [abs(term) for _, term in strongest]
    assert sizes == sorted(np.abs(votes.terms), reverse=True)[:5]
    assert all(votes.terms[feature] == term for feature, term in strongest)
    assert len(votes.strongest(10_000)) == len(votes.features)


@pytest.mark.parametrize("engine", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("bottleneck", "maxpool"),
        ("bottleneck", "layer1.0.bn2"),
        ("basic", "layer2.0.relu2"),
        ("plain", "relu"),
    ],
)
def test_gradcam_is_as_defined(inspect: Inspect, name: str, node: str, engine: str) -> None:
    inspection = inspect(name, engine)
    model, maps = inspection.model, inspection.value(node).astype(np.float64)
    signal = np.eye(3)[1]
    gradient = defined(
        model.graph, model.weights, inspection.input[0], inspection.output, signal, node, "gradient"
    )
    expected = np.maximum((maps * gradient.mean(axis=(0, 1))).sum(axis=2), 0)
    found = gradcam(inspection, 1, node)
    assert (found.node, found.class_index) == (node, 1)
    assert relative_error(found.values, expected) <= 1e-5


@pytest.mark.parametrize("name", NETWORKS + OTHERS)
def test_gradcam_of_the_last_maps_is_cam_rectified(inspect: Inspect, name: str) -> None:
    inspection = inspect(name)
    for index in range(3):
        rectified = np.maximum(cam(inspection, index).values, 0)
        assert np.allclose(gradcam(inspection, index).values, rectified, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS + OTHERS)
def test_gradients_and_guided_ones_equal_pytorch_with_hooks(inspect: Inspect, name: str) -> None:
    torch = pytest.importorskip("torch")
    from lushan.bench import torch_network

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(context, grad_y):
            return grad_y.clamp(min=0) * (context.saved_tensors[0] > 0)

    inspection = inspect(name)
    model = inspection.model
    plain = torch_network.FUNCTIONS["relu"]
    for rule, relu in (("gradient", plain), ("guided", lambda f, x: Guided.apply(x))):
        if rule == "guided" and name in OTHERS:
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch_network, "IN_PLACE", {})
            patch.setattr(torch_network, "FUNCTIONS", {**torch_network.FUNCTIONS, "relu": relu})
            network = torch_network.torch_network(
                model.graph, model.weights, torch.contiguous_format
            )
            x = torch.from_numpy(to_nchw(inspection.input).copy()).requires_grad_()
            network(x)[0, 2].backward()
        expected = to_nhwc(x.grad.numpy())
        signal = np.eye(3, dtype=np.float32)[2:]
        found = send_back(inspection, inspection.output, "input", signal, rule)
        assert relative_error(found, expected) <= 1e-4, rule


def test_what_there_is_not_is_refused(inspect: Inspect) -> None:
    inspection = inspect("bottleneck")
    for explain in (cam, gradcam, contributions):
        with pytest.raises(UsageError, match="class 3: the classes are numbered 0 to 2"):
            explain(inspection, 3)
    with pytest.raises(UsageError, match="avgpool has no feature maps"):
        gradcam(inspection, 0, "avgpool")
    with pytest.raises(UsageError, match="input has no feature maps"):
        gradcam(inspection, 0, "input")
