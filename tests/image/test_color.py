"""RGB ↔ Y′CbCr against the standards' printed numbers and Pillow, and chroma subsampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lushan.errors import UsageError
from lushan.image.color import (
    BT601,
    BT709,
    chroma_only,
    chroma_size,
    luma_only,
    rgb_to_ycbcr,
    rgb_to_ycbcr_float,
    subsample,
    upsample,
    ycbcr_to_rgb,
    ycbcr_to_rgb_float,
)

MU_SHAN_ZI = (163, 171, 214)  # 暮山紫, the purple of mountains at dusk
SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


@pytest.fixture(scope="module")
def every_17th() -> np.ndarray:
    """Return a lattice of colours, [16, 256, 3], corners included."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    return np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(16, 256, 3)


def test_matrices_are_those_that_the_standards_print():
    jfif = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    assert np.allclose(BT601.to_ycbcr(), jfif, atol=1e-6)
    back = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]
    assert np.allclose(BT601.to_rgb(), back, atol=1e-6)
    assert np.allclose(BT709.to_rgb()[:, 2], [1.5748, -0.468124, 0], atol=1e-6)


@pytest.mark.parametrize("standard", [BT601, BT709], ids=lambda s: s.name)
def test_float_conversion_is_its_own_inverse(standard):
    rgb = np.random.default_rng(0).random((50, 3))
    assert np.allclose(ycbcr_to_rgb_float(rgb_to_ycbcr_float(rgb, standard), standard), rgb)


def test_full_range_equals_jpegs(every_17th):
    jpeg = np.asarray(Image.fromarray(every_17th).convert("YCbCr")).astype(int)
    assert np.abs(rgb_to_ycbcr(every_17th).astype(int) - jpeg).max() <= 1


def test_black_white_and_primaries_in_video_range():
    colors = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    expected = [[16, 128, 128], [235, 128, 128], [81, 90, 240], [41, 240, 110]]
    assert rgb_to_ycbcr(colors, BT601, "limited").tolist() == expected
    assert rgb_to_ycbcr(colors, BT709, "limited")[2].tolist() == [63, 102, 240]


def test_mu_shan_zi():
    color = np.array(MU_SHAN_ZI, dtype=np.uint8)
    assert rgb_to_ycbcr(color).tolist() == [174, 151, 121]
    assert np.abs(ycbcr_to_rgb(rgb_to_ycbcr(color)).astype(int) - color).max() <= 1


@pytest.mark.parametrize("standard", [BT601, BT709], ids=lambda s: s.name)
@pytest.mark.parametrize(("value_range", "bound"), [("full", 1), ("limited", 2)])
def test_round_trip_in_8_bits(every_17th, standard, value_range, bound):
    ycbcr = rgb_to_ycbcr(every_17th, standard, value_range)
    back = ycbcr_to_rgb(ycbcr, standard, value_range)
    assert np.abs(back.astype(int) - every_17th).max() <= bound
    if value_range == "limited":
        assert ycbcr[..., 0].min() == 16 and ycbcr[..., 0].max() == 235
        assert ycbcr[..., 1:].min() == 16 and ycbcr[..., 1:].max() == 240


def test_grey_has_no_chroma():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    ycbcr = rgb_to_ycbcr(grey)
    assert np.array_equal(ycbcr[:, 0], grey[:, 0])
    assert (ycbcr[:, 1:] == 128).all()


@pytest.mark.shared
def test_luma_keeps_the_outline_and_chroma_loses_it(photos):
    with Image.open(photos[0]) as image:
        ycbcr = rgb_to_ycbcr(np.array(image.convert("RGB")))

    def outline(rgb: np.ndarray) -> np.ndarray:
        brightness = np.asarray(Image.fromarray(rgb).convert("L")).astype(float)
        return np.abs(np.diff(brightness, axis=1)).ravel()

    whole = outline(ycbcr_to_rgb(ycbcr))
    luma, chroma = (
        outline(ycbcr_to_rgb(luma_only(ycbcr))),
        outline(ycbcr_to_rgb(chroma_only(ycbcr))),
    )
    assert np.corrcoef(whole, luma)[0, 1] > 0.95
    assert chroma.mean() < 0.25 * whole.mean()


def test_subsampling_takes_the_stated_means():
    row = np.array([[10, 20, 30, 40, 50]], dtype=np.uint8)
    assert subsample(row, "4:2:2", "center").tolist() == [[15, 35, 50]]
    # Columns 0, 2, 4 with a quarter of their neighbours; edges repeat: 12.5, 30, 47.5.
    assert subsample(row, "4:2:2", "left").tolist() == [[13, 30, 48]]
    square = np.array([[10, 20], [30, 41]], dtype=np.uint8)
    assert subsample(square, "4:2:0", "center").tolist() == [[25]]  # 25.25


def test_upsampling_interpolates_between_the_stated_places():
    row = np.array([[0, 100]], dtype=np.uint8)
    assert upsample(row, 4, 1, "4:2:2", "center").tolist() == [[0, 25, 75, 100]]
    assert upsample(row, 4, 1, "4:2:2", "left").tolist() == [[0, 50, 100, 100]]
    assert upsample(row, 3, 2, "4:2:0", "left").tolist() == [[0, 50, 100]] * 2
    assert upsample(row.T, 1, 4, "4:2:0", "left").ravel().tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("siting", ["left", "center"])
def test_siting_keeps_a_ramp_in_place(siting):
    """Down and up again with one siting, a ramp stays where it was: nothing shifts."""
    ramp = np.tile(np.arange(10, 250, 4, dtype=np.uint8), (6, 1))
    back = upsample(subsample(ramp, "4:2:0", siting), 60, 6, "4:2:0", siting)
    assert np.abs(back.astype(int) - ramp)[:, 2:-2].max() == 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 255), st.sampled_from(SAMPLINGS))
def test_flat_planes_and_odd_sizes(width, height, value, sampling):
    plane = np.full((height, width), value, dtype=np.uint8)
    for siting in ("left", "center"):
        small = subsample(plane, sampling, siting)
        assert small.shape == chroma_size(width, height, sampling)[::-1]
        assert np.array_equal(upsample(small, width, height, sampling, siting), plane)


def test_sizes_round_up():
    assert chroma_size(5, 3, "4:4:4") == (5, 3)
    assert chroma_size(5, 3, "4:2:2") == (3, 3)
    assert chroma_size(5, 3, "4:2:0") == (3, 2)


def test_wrong_arguments_are_told():
    plane = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(UsageError, match="4:4:4, 4:2:2 or 4:2:0, it is '4:1:1'"):
        subsample(plane, "4:1:1")
    with pytest.raises(UsageError, match="it is 'top'"):
        subsample(plane, "4:2:0", "top")
    with pytest.raises(UsageError, match=r"4:2:0 chroma plane of 9×9 is \[5, 5\], not \[2, 2\]"):
        upsample(plane, 9, 9, "4:2:0")
    with pytest.raises(UsageError, match="it is 'tv'"):
        rgb_to_ycbcr(np.zeros((1, 3), dtype=np.uint8), BT601, "tv")
    with pytest.raises(UsageError, match="got float64"):
        rgb_to_ycbcr(np.zeros((1, 3)))
    with pytest.raises(UsageError, match="uint8 plane"):
        subsample(np.zeros((2, 2)), "4:2:0")
