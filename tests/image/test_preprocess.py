"""Preprocessing equals the evaluation transforms of torchvision and timm."""

from __future__ import annotations

import json
import math
import reprlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from lushan.errors import ModelError
from lushan.image.decode import decode
from lushan.image.preprocess import Preprocessing

# An independent reading of torchvision.transforms and timm.data.transforms_factory, in Pillow.


def torchvision_center_crop(image: Image.Image, height: int, width: int, fill=(0, 0, 0)):
    if width > image.width or height > image.height:
        across, down = max(width - image.width, 0), max(height - image.height, 0)
        sides = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        image = ImageOps.expand(image, sides, fill)
    top = int(round((image.height - height) / 2.0))  # noqa: RUF046
    left = int(round((image.width - width) / 2.0))  # noqa: RUF046
    return image.crop((left, top, left + width, top + height))


def torchvision_resize(image: Image.Image, size: int, filter_: int) -> Image.Image:
    short, long = sorted(image.size)
    new_long = int(size * long / short)
    portrait = image.width <= image.height
    return image.resize((size, new_long) if portrait else (new_long, size), filter_)


def timm_resize_keep_ratio(image, height, width, longest: float, filter_) -> Image.Image:
    ratios = image.height / height, image.width / width
    ratio = max(ratios) * longest + min(ratios) * (1.0 - longest)
    return image.resize((round(image.width / ratio), round(image.height / ratio)), filter_)


def expected_input(image: Image.Image, recipe: Preprocessing) -> np.ndarray:
    filter_ = Image.Resampling[recipe.interpolation.upper()]
    height, width = recipe.height, recipe.width
    scaled = math.floor(height / recipe.crop_pct), math.floor(width / recipe.crop_pct)
    fill = (0, 0, 0)
    if recipe.crop_mode == "squash":
        image = image.resize(scaled[::-1], filter_)
    elif recipe.crop_mode == "border":
        image = timm_resize_keep_ratio(image, *scaled, 1.0, filter_)
        fill = tuple(round(255 * v) for v in recipe.mean)
    elif scaled[0] == scaled[1]:
        image = torchvision_resize(image, scaled[0], filter_)
    else:
        image = timm_resize_keep_ratio(image, *scaled, 0.0, filter_)
    image = torchvision_center_crop(image, height, width, fill)
    tensor = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, 3) / np.float32(255)
    return (tensor - np.array(recipe.mean, np.float32)) / np.array(recipe.std, np.float32)


RECIPES = [
    Preprocessing(interpolation="bilinear"),
    Preprocessing(288, 288, "bicubic", 0.95),
    Preprocessing(32, 32, "bilinear", 1.0),
    Preprocessing(160, 160, "lanczos", 0.9, "squash"),
    Preprocessing(192, 256, "bicubic", 0.875),
    Preprocessing(97, 65, "bilinear", 0.8, "border"),
    Preprocessing(224, 224, "bicubic", 1.0, "border", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Preprocessing(224, 224, "nearest", 1.3),  # a crop larger than the picture: padded
]


@pytest.mark.shared
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.height}x{r.width}-{r.crop_mode}")
def test_every_photo_equals_the_evaluation_transform(photos, recipe):
    """Equal to the last bit, well within the ±1/255 that is promised."""
    assert photos
    for path in photos:
        with Image.open(path) as image:
            expected = expected_input(image.convert("RGB"), recipe)
        found = recipe(decode(path))
        assert found.dtype == np.float32 and found.shape == (recipe.height, recipe.width, 3)
        assert np.array_equal(found, expected), path.name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.height}x{r.width}-{r.crop_mode}")
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 200), (201, 100), (256, 256), (225, 257)])
def test_odd_sizes_equal_the_evaluation_transform(recipe, size):
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    picture = decode(values)
    assert np.array_equal(recipe(picture), expected_input(picture.image, recipe))


def test_the_steps_of_normalisation_are_rounded_like_torchvisions():
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
    recipe = Preprocessing()
    by_hand = [
        [
            (np.float32(v) / np.float32(255) - np.float32(m)) / np.float32(s)
            for m, s in zip(recipe.mean, recipe.std, strict=True)
        ]
        for v in range(256)
    ]
    assert np.array_equal(recipe.normalize(values), np.array(by_hand, dtype=np.float32))


def test_pixels_are_what_the_network_sees():
    picture = decode(np.full((300, 400, 3), 200, dtype=np.uint8))
    seen = Preprocessing(height=64, width=48).pixels(picture)
    assert seen.shape == (64, 48, 3) and seen.dtype == np.uint8 and (seen == 200).all()


def test_missing_keys_get_timms_defaults():
    recipe = Preprocessing.from_pretrained_cfg({"first_conv": "conv1", "crop_pct": None})
    assert recipe == Preprocessing()
    assert (recipe.height, recipe.width, recipe.interpolation) == (224, 224, "bicubic")
    assert (recipe.crop_pct, recipe.crop_mode) == (0.875, "center")
    assert recipe.mean == (0.485, 0.456, 0.406) and recipe.std == (0.229, 0.224, 0.225)


def test_test_sizes_win_because_this_is_evaluation():
    recipe = Preprocessing.from_pretrained_cfg(
        {
            "input_size": [3, 224, 224],
            "test_input_size": (3, 288, 320),
            "crop_pct": 0.9,
            "test_crop_pct": 1,
            "interpolation": "random",
            "mean": [0, 0, 0],
        }
    )
    assert (recipe.height, recipe.width, recipe.crop_pct) == (288, 320, 1.0)
    assert recipe.interpolation == "bilinear" and recipe.mean == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.height}x{r.width}-{r.crop_mode}")
def test_a_recipe_survives_config_json(recipe):
    written = json.loads(json.dumps(recipe.to_pretrained_cfg()))
    assert Preprocessing.from_pretrained_cfg(written) == recipe


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_size", [1, 28, 28]),
        ("input_size", [3, 224]),
        ("input_size", 224),
        ("input_size", [3, 0, 224]),
        ("test_input_size", [3, 224.0, 224]),
        ("input_size", [3, 10**6, 10**6]),
        ("crop_pct", 0),
        ("crop_pct", "0.9"),
        ("test_crop_pct", -1.0),
        ("crop_pct", math.nan),
        ("crop_pct", math.inf),
        ("crop_pct", 1e-9),
        ("crop_pct", True),
        ("interpolation", "cubic"),
        ("interpolation", ["bicubic"]),
        ("crop_mode", "middle"),
        ("mean", [0.5, 0.5]),
        ("mean", "abc"),
        ("mean", [0.5, None, 0.5]),
        ("std", [1, 1, 0]),
        ("std", [1, 1, math.nan]),
        ("std", [1, 1, 10**400]),
    ],
)
def test_wrong_values_are_named_with_their_key(key, value):
    with pytest.raises(ModelError) as caught:
        Preprocessing.from_pretrained_cfg({key: value}, source="m/config.json")
    message = str(caught.value)
    assert message.startswith(f"m/config.json: pretrained_cfg.{key} must be")
    assert len(message) < 300
    named = reprlib.repr(value)
    if key.endswith("input_size") and isinstance(value, list) and len(value) == 3 and value[0] == 3:
        named = repr(next(side for side in value[1:] if side != 224 or type(side) is not int))
    assert named in message


def test_a_recipe_made_by_hand_is_checked_too():
    with pytest.raises(ModelError, match="height must be a whole number from 1 to 2048, it is 0"):
        Preprocessing(height=0)
    with pytest.raises(ModelError, match="interpolation must be one of nearest, bilinear"):
        Preprocessing(interpolation="cubic")
