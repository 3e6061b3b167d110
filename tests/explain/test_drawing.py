"""Drawings show what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from lushan.explain.drawing import (
    HEAT,
    colours,
    enlarge,
    heat_map,
    map_picture,
    pattern_picture,
)


def test_colours_begin_and_end_with_the_scale_and_grow_lighter() -> None:
    shades = colours(np.linspace(-1, 2, 301))
    assert tuple(shades[0]) == tuple(shades[100]) == HEAT[0]
    assert tuple(shades[200]) == tuple(shades[300]) == HEAT[-1]
    lightness = shades[100:201] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) >= 0).all()


def test_heat_is_bright_where_it_is_great_and_leaves_the_rest_grey() -> None:
    pixels = np.full((20, 30, 3), (200, 10, 40), np.uint8)
    heat = np.full((4, 6), -5.0)
    heat[1, 4] = 3
    drawn = heat_map(pixels, heat, least=100)
    assert drawn.shape == (100, 150, 3)
    row, column = np.unravel_index(drawn.astype(int).sum(axis=2).argmax(), drawn.shape[:2])
    assert 25 <= row < 50
    assert 100 <= column < 125
    assert len(set(drawn[90, 10].tolist())) == 1  # grey


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), -np.ones((1, 1)), np.full((2, 2), 1e-320)])
def test_no_heat_at_all_is_drawn(heat: np.ndarray) -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    assert (heat_map(pixels, heat, least=8)[..., 0] == 100).any() or heat.max() > 0


def test_patterns_are_grey_where_they_are_0() -> None:
    pattern = np.zeros((10, 10, 3), np.float32)
    pattern[2, 3] = (1, -1, 0.5)
    drawn = pattern_picture(pattern, least=10)
    assert drawn[2, 3].tolist() == [255, 0, 191]
    assert (drawn[5:] == 128).all()
    assert (pattern_picture(np.zeros((4, 4, 3)), least=4) == 128).all()


def test_maps_go_from_end_to_end() -> None:
    drawn = map_picture(np.array([[-3.0, 1.0], [0.0, 5.0]]), least=2)
    assert tuple(drawn[0, 0]) == HEAT[0]
    assert tuple(drawn[1, 1]) == HEAT[-1]
    assert tuple(map_picture(np.ones((2, 2)), least=2)[0, 0]) == HEAT[0]


def test_enlarging_repeats_pixels() -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert enlarge(pixels, 5).shape == (6, 9, 3)
    assert np.array_equal(enlarge(pixels, 5)[::3, ::3], pixels)
    assert enlarge(pixels, 1) is not None
