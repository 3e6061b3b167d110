"""The figures and facts of the mission, chapter by chapter, as the product computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import lushan
from lushan.graph import interpret
from lushan.image.color import chroma_only, luma_only, rgb_to_ycbcr, ycbcr_to_rgb
from lushan.image.decode import decode
from lushan.image.frame import frame_size
from lushan.image.layout import HWC, NCHW, NHWC, Shape, convert, parse_layout
from lushan.models.labels import imagenet1k
from lushan.models.resnet import ARCHITECTURES
from lushan.models.resnet_graph import INPUT, build
from lushan.models.summary import summarize
from lushan.reference.activation import leaky_relu, prelu, relu, sigmoid, tanh
from lushan.reference.convolution import convolution
from lushan.reference.linear import linear
from lushan.reference.pooling import average_pooling, global_average_pooling, max_pooling
from lushan.reference.residual import add, add_backward
from lushan.reference.softmax import hard_max, softmax, top_k
from support.random_graphs import random_weights

KIB, MIB = 2**10, 2**20
random = np.random.default_rng(2026)


def test_chapter_1_pixels() -> None:
    size = HWC.size_in_bytes(Shape(1, 1080, 1920, 3))
    assert size == 6075 * KIB
    assert round(size / MIB, 2) == 5.93
    pixels = decode(np.array([[[0, 128, 255]]], np.uint8)).pixels
    assert pixels.dtype == np.uint8  # unsigned: 0 to 255
    assert (np.iinfo(pixels.dtype).min, np.iinfo(pixels.dtype).max) == (0, 255)


@pytest.mark.shared
def test_chapter_1_low_resolution_and_half_covered(shared: Path) -> None:
    """The article's claim, measured: a coarse or half covered picture is harder, not hopeless."""
    import tarfile

    counts = dict.fromkeys(("whole", "coarse", "covered"), 0)
    with (
        lushan.load(shared / "weights/resnet20-cifar10") as recognizer,
        tarfile.open(shared / "data/cifar10.tar.xz", "r|xz") as archive,
    ):
        members = (member for member in archive if "/test/" in member.name and member.isfile())
        pictures = []
        for member, _ in zip(members, range(200), strict=False):
            file = archive.extractfile(member)
            assert file is not None
            pictures.append((Path(member.name).parts[2], decode(file.read()).image))
        for label, image in pictures:
            covered = image.copy()
            covered.paste((124, 116, 104), (0, 16, 32, 32))
            variants = {
                "whole": image,
                "coarse": image.resize((16, 16)).resize((32, 32)),
                "covered": covered,
            }
            for name, variant in variants.items():
                counts[name] += recognizer.classify(variant, top=1)[0].label == label
    assert counts["whole"] > counts["coarse"] > 200 // 10  # ten classes: chance is a tenth
    assert counts["whole"] > counts["covered"] > 200 // 10


def test_chapter_2_layout() -> None:
    assert HWC.array_shape(Shape(1, 224, 224, 3)) == (224, 224, 3)
    batch = Shape(2, 224, 224, 3)
    assert NHWC.array_shape(batch) == (2, 224, 224, 3)
    array = random.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    for layout in (NHWC, NCHW, parse_layout("nChw16c")):
        flat = convert(array, NHWC, layout).reshape(-1)
        for n, h, w, c in ((0, 0, 0, 0), (1, 223, 223, 2), (1, 100, 7, 1)):
            assert flat[layout.address(batch, n, h, w, c)] == array[n, h, w, c]


def test_chapter_3_colour_spaces() -> None:
    rgb = HWC.size_in_bytes(Shape(1, 1080, 1920, 3))
    half_chroma = frame_size("I422", 1920, 1080)
    assert half_chroma == 4050 * KIB
    assert round(half_chroma / MIB, 2) == 3.96
    assert half_chroma == frame_size("YUYV", 1920, 1080) == rgb * 2 // 3
    assert frame_size("I444", 1920, 1080) == rgb
    assert frame_size("NV12", 1920, 1080) == rgb // 2
    dusk_mountain_purple = np.array([[163, 171, 214]], np.uint8)  # 暮山紫
    there = rgb_to_ycbcr(dusk_mountain_purple)
    assert np.abs(ycbcr_to_rgb(there).astype(int) - dusk_mountain_purple).max() <= 1
    assert there[0, 1] > 128  # bluer than grey
    assert there[0, 2] < 128  # and less red


@pytest.mark.shared
def test_chapter_3_luma_keeps_the_outline_and_chroma_does_not(photos: list[Path]) -> None:
    def edges(pixels: np.ndarray) -> np.ndarray:
        grey = Image.fromarray(pixels).convert("L").filter(ImageFilter.FIND_EDGES)
        return np.asarray(grey, np.float64)[2:-2, 2:-2].ravel()

    for path in photos:
        pixels = decode(path).pixels
        ycbcr = rgb_to_ycbcr(pixels)
        outline = edges(pixels)
        kept = np.corrcoef(outline, edges(ycbcr_to_rgb(luma_only(ycbcr))))[0, 1]
        lost = edges(ycbcr_to_rgb(chroma_only(ycbcr))).std() / outline.std()
        assert kept > 0.98, path.name
        assert lost < 0.25, path.name


def test_chapter_4_a_neuron_passes_or_blocks() -> None:
    x = np.array([[0.7, 0.2]])
    assert linear(x, np.array([[1.0, 0.0]]))[0, 0] == 0.7  # weight 1 passes, weight 0 blocks
    weighted = linear(x, np.array([[0.5, -2.0]]), np.array([0.1]))
    assert relu(weighted)[0, 0] == pytest.approx(max(0, 0.5 * 0.7 - 2 * 0.2 + 0.1))


def test_chapter_5_convolution() -> None:
    y = convolution(np.ones((1, 4, 4, 3)), np.ones((8, 3, 3, 3)))
    assert y.shape == (1, 2, 2, 8)  # [n,hi,wi,c] * [kn,kh,kw,c] → [n,ho,wo,kn]
    assert np.all(y == 27)
    # Cross-correlation: the kernel is laid on as it is, not turned round.
    picture, kernel = np.zeros((1, 3, 3, 1)), np.arange(9.0).reshape(1, 3, 3, 1)
    picture[0, 0, 0, 0] = 1
    assert convolution(picture, kernel)[0, 0, 0, 0] == kernel[0, 0, 0, 0]


def test_chapter_6_channels() -> None:
    layers = summarize(build(ARCHITECTURES["resnet50"]), 224, 224).layers
    channels = [3, *(layer.output_shape[-1] for layer in layers if layer.operator == "add")]
    assert layers[0].output_shape[-1] == 64
    assert channels[0] == 3
    assert channels[-1] == 2048


def test_chapter_7_the_network() -> None:
    counts = summarize(build(ARCHITECTURES["resnet50"]), 224, 224)
    convolutions = [layer for layer in counts.layers if layer.operator == "convolution"]
    assert counts.weighted_layers == 50
    assert len(convolutions) - counts.projections == 49
    assert counts.projections == 4
    assert counts.parameters == 25_557_032
    assert round(counts.multiply_accumulates / 1e9, 2) == 4.09
    classifier = next(layer for layer in counts.layers if layer.name == "fc")
    assert round(100 * classifier.parameters / counts.parameters) == 8  # percent


def test_chapter_8_residual() -> None:
    x, branch = random.standard_normal((2, 1, 4, 4, 8))
    assert np.array_equal(add(branch, x), branch + x)
    grad = random.standard_normal((1, 4, 4, 8))
    to_branch, to_shortcut = add_backward(grad)
    assert np.array_equal(to_branch, grad)
    assert np.array_equal(to_shortcut, grad)  # the shortcut passes the gradient undiminished


def test_chapter_9_activation() -> None:
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert np.array_equal(relu(x), [0, 0, 0, 0.5, 2])
    assert np.allclose(leaky_relu(x, 0.1), [-0.2, -0.05, 0, 0.5, 2])
    assert np.allclose(prelu(x[:, None], np.array([0.25]))[:, 0], [-0.5, -0.125, 0, 0.5, 2])
    assert sigmoid(np.zeros(1))[0] == 0.5
    assert tanh(np.array([-50.0, 50.0])).tolist() == [-1, 1]  # tanh spans −1 to 1
    k, b, h, d = 3.0, 0.5, -2.0, 1.0
    A, B = h * k, h * b + d
    assert np.allclose(h * (k * x + b) + d, A * x + B)  # without activation, layers collapse


def test_chapter_9_two_convolutions_collapse_to_one() -> None:
    x = random.standard_normal((1, 9, 9, 2))
    first = random.standard_normal((3, 3, 3, 2))
    second = random.standard_normal((4, 3, 3, 3))
    # The 5×5 kernel is the second laid over the first, summed over the channels between.
    combined = np.zeros((4, 5, 5, 2))
    for kh in range(3):
        for kw in range(3):
            combined[:, kh : kh + 3, kw : kw + 3] += np.einsum(
                "om,mhwi->ohwi", second[:, kh, kw], first
            )
    stacked = convolution(convolution(x, first), second)
    assert np.allclose(stacked, convolution(x, combined))
    with_relu = convolution(relu(convolution(x, first)), second)
    assert not np.allclose(with_relu, stacked)  # the activation is what depth needs


def test_chapter_10_pooling() -> None:
    x = random.standard_normal((1, 8, 6, 3))
    pooled, switches = max_pooling(x, 2)
    assert pooled.shape == (1, 4, 3, 3)  # 2×2 with stride 2 halves height and width
    assert pooled[0, 0, 0, 1] == x[0, :2, :2, 1].max()  # per channel
    assert np.array_equal(
        np.take_along_axis(x.reshape(48, 3), switches[0].reshape(12, 3), 0), pooled.reshape(12, 3)
    )
    assert average_pooling(x, 2)[0, 0, 0, 1] == pytest.approx(x[0, :2, :2, 1].mean())
    assert np.allclose(global_average_pooling(x), x.mean(axis=(1, 2)))


def test_chapter_10_the_invariance_of_pooling_is_small_and_is_there() -> None:
    """Shift a picture by one pixel: pooling keeps more of it than no pooling, far from all."""
    x = random.standard_normal((8, 32, 32, 4))
    shifted = np.roll(x, 1, axis=2)

    def kept(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    plain = kept(x, shifted)
    pooled = kept(max_pooling(x, 3, stride=2)[0], max_pooling(shifted, 3, stride=2)[0])
    assert plain < 0.1 < pooled < 0.9


def test_chapter_11_fully_connected() -> None:
    labels = imagenet1k()
    cats = {
        281: ("n02123045", "tabby"),
        282: ("n02123159", "tiger cat"),
        283: ("n02123394", "Persian"),
        284: ("n02123597", "Siamese"),
        285: ("n02124075", "Egyptian"),
        286: ("n02125311", "cougar"),
        287: ("n02127052", "lynx"),
    }
    for index, (wnid, name) in cats.items():
        assert labels.names[index] == wnid
        assert name in labels.description(index, "en")
    features, weight = random.standard_normal((2, 2048)), random.standard_normal((10, 2048))
    as_convolution = convolution(features[:, None, None], weight[:, None, None])[:, 0, 0]
    assert np.allclose(linear(features, weight), as_convolution)
    # Each score is the sum of 2048 contributions; features are not classes.
    assert np.allclose((features[0] * weight[3]).sum(), linear(features, weight)[0, 3])
    dense_stem = (224 * 224 * 3) * (112 * 112 * 64)
    assert round(dense_stem / 1e9, 1) == 120.8
    assert round(4 * dense_stem / 1e9) == 483


def test_chapter_12_softmax() -> None:
    def percent(*scores: float) -> list[float]:
        return (100 * softmax(np.array(scores))).round(1).tolist()

    assert percent(2, 1, 0.1) == [65.9, 24.2, 9.9]
    assert percent(2.1, 1.9, 0.1) == [51.2, 41.9, 6.9]
    assert hard_max(np.array([3.0, 4.0])) == 4
    scores = random.standard_normal((5, 1000))
    assert np.array_equal(top_k(scores, 5), top_k(softmax(scores), 5))  # the ranking never changes
    a, b = scores[0, :2]
    assert sigmoid(np.array([a - b]))[0] == pytest.approx(softmax(np.array([a, b]))[0])


def test_chapter_14_float32_absorbs_small_addends() -> None:
    assert np.float32(20_000_000) + np.float32(1) == np.float32(20_000_000)
    assert np.float64(20_000_000) + np.float64(1) == 20_000_001


def test_chapter_14_the_error_of_long_sums_stays_bounded() -> None:
    """ResNet-50's longest sums have 4,608 terms; a whole network stays near float64."""
    graph = build(ARCHITECTURES["resnet20_cifar"])
    weights = random_weights(graph, 3)
    x = random.standard_normal((1, 32, 32, 3))
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = interpret.compile(graph, double)({INPUT: x})["linear"]
    single = interpret.compile(graph, weights)({INPUT: x.astype(np.float32)})["linear"]
    assert np.abs(single - exact).max() / np.abs(exact).max() < 1e-5
