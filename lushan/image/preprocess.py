"""Picture → the float32 array that a network was trained to see.

The recipe (size, interpolation, crop, mean and standard deviation) is stored with the weights, in
the shape of timm's ``pretrained_cfg``, and applied nowhere else. Results equal the evaluation
transforms of torchvision and timm. Augmentation for training is not here.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lushan.errors import ModelError
from lushan.image.resize import INTERPOLATIONS, Box, Size, resize_and_crop
from lushan.record import record

if TYPE_CHECKING:
    from PIL import Image

    from lushan.image.decode import Picture

Triple = tuple[float, float, float]

# What timm takes for a key that is missing: the values most ImageNet weights were trained with.
_SIDE = 224
_INTERPOLATION = "bicubic"
_CROP_PCT = 0.875
_CROP_MODE = "center"
_MEAN: Triple = (0.485, 0.456, 0.406)
_STD: Triple = (0.229, 0.224, 0.225)

_CROP_MODES = ("center", "squash", "border")
# The recipe comes out of a file. Beyond these a number is a mistake, and would cost the memory of
# the machine: at 2048 × 2048 one value of ResNet-50 takes a gigabyte.
_LARGEST_SIDE = 2048
_LARGEST_RESIZED_SIDE = 16384  # of which only the crop is computed


@record
class Placement:
    """Where the input of a network lies on a picture, resized to (width, height) ``resized``.

    ``crop`` is (left, top, width, height) in its pixels; what lies beyond it has the colour
    ``fill``.
    """

    resized: Size
    crop: Box
    fill: tuple[int, int, int]


@record
class Preprocessing:
    """How a picture becomes the input of a network.

    The picture is resized to ``floor(side / crop_pct)`` and the middle ``height`` × ``width`` of
    it is cropped. ``crop_mode`` says how it is resized: ``"center"`` keeps its proportions and
    covers the size, ``"squash"`` gives them up, ``"border"`` keeps them and shows all of the
    picture, with margins in the mean colour. Then x → (x / 255 − mean) / std per channel.
    Raises ``ModelError`` for values that cannot be.
    """

    height: int = _SIDE  # pixels
    width: int = _SIDE  # pixels
    interpolation: str = _INTERPOLATION  # one of resize.INTERPOLATIONS
    crop_pct: float = _CROP_PCT  # part of the resized side that the crop keeps
    crop_mode: str = _CROP_MODE
    mean: Triple = _MEAN  # red, green, blue, on the scale 0 to 1
    std: Triple = _STD

    def __post_init__(self) -> None:
        source = "Preprocessing"
        _check_side(source, "height", self.height)
        _check_side(source, "width", self.width)
        _check_choice(source, "interpolation", self.interpolation, INTERPOLATIONS)
        _check_crop_pct(source, "crop_pct", self.crop_pct, self.height, self.width)
        _check_choice(source, "crop_mode", self.crop_mode, _CROP_MODES)
        _check_triple(source, "mean", self.mean, positive=False)
        _check_triple(source, "std", self.std, positive=True)

    @classmethod
    def from_pretrained_cfg(
        cls, cfg: Mapping[str, object], *, source: str = "config"
    ) -> Preprocessing:
        """Return the recipe that ``cfg``, a ``pretrained_cfg`` as timm writes it, describes.

        ``test_input_size`` and ``test_crop_pct`` win where present, for this is evaluation.
        Missing or null keys get timm's defaults: 224×224, bicubic, crop_pct 0.875, ImageNet's
        mean and standard deviation. Keys of no concern here are left alone. Raises
        ``ModelError`` naming ``source``, the key and its value.
        """
        size_key, size = _first_of(cfg, ("test_input_size", "input_size"), (3, _SIDE, _SIDE))
        height, width = _check_input_size(source, size_key, size)
        pct_key, crop_pct = _first_of(cfg, ("test_crop_pct", "crop_pct"), _CROP_PCT)
        mode_key, mode = _first_of(cfg, ("interpolation",), _INTERPOLATION)
        crop_key, crop_mode = _first_of(cfg, ("crop_mode",), _CROP_MODE)
        mean_key, mean = _first_of(cfg, ("mean",), _MEAN)
        std_key, std = _first_of(cfg, ("std",), _STD)
        if mode == "random":  # a habit of training; timm evaluates it as bilinear
            mode = "bilinear"
        return cls(
            height=height,
            width=width,
            interpolation=_check_choice(source, mode_key, mode, INTERPOLATIONS),
            crop_pct=_check_crop_pct(source, pct_key, crop_pct, height, width),
            crop_mode=_check_choice(source, crop_key, crop_mode, _CROP_MODES),
            mean=_check_triple(source, mean_key, mean, positive=False),
            std=_check_triple(source, std_key, std, positive=True),
        )

    def to_pretrained_cfg(self) -> dict[str, object]:
        """Return the recipe as the keys of a ``pretrained_cfg``, ready for JSON."""
        return {
            "input_size": [3, self.height, self.width],
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def crop_image(self, image: Image.Image) -> Image.Image:
        """Return an RGB image resized and cropped to ``width`` × ``height``."""
        placement = self.place(image.size)
        return resize_and_crop(
            image, placement.resized, placement.crop, self.interpolation, placement.fill
        )

    def place(self, size: Size) -> Placement:
        """Return how an image of ``size`` (width, height) is resized and cropped."""
        resized, fill = self._resized_size(size), (0, 0, 0)
        if self.crop_mode == "border":
            red, green, blue = (min(max(round(255 * mean), 0), 255) for mean in self.mean)
            fill = (red, green, blue)
        return Placement(resized, _center_box(resized, (self.width, self.height)), fill)

    def seen(self, size: Size) -> tuple[float, float, float, float]:
        """Return which part of an image of ``size`` (width, height) the network gets to see.

        It is (left, top, right, bottom) as parts of the width and height; beyond 0 and 1 lie
        margins.
        """
        resized = self._resized_size(size)
        left, top, width, height = _center_box(resized, (self.width, self.height))
        return (
            left / resized[0],
            top / resized[1],
            (left + width) / resized[0],
            (top + height) / resized[1],
        )

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """Return what the network gets to see of ``picture``: uint8 [height, width, 3]."""
        return np.array(self.crop_image(picture.image))

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (x / 255 − mean) / std of uint8 [..., 3], as float32 [..., 3].

        The three steps are rounded one by one, in torchvision's order, for equal results.
        """
        values = pixels.astype(np.float32)
        values /= np.float32(255)
        values -= np.asarray(self.mean, dtype=np.float32)
        values /= np.asarray(self.std, dtype=np.float32)
        return values

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """Return the input of the network for ``picture``: float32 [height, width, 3]."""
        return self.normalize(self.pixels(picture))

    def _resized_size(self, size: Size) -> Size:
        """Return (width, height) to which an image of ``size`` is resized before the crop."""
        width, height = size
        target_width = math.floor(self.width / self.crop_pct)
        target_height = math.floor(self.height / self.crop_pct)
        if self.crop_mode == "squash":
            return target_width, target_height
        if self.crop_mode == "center" and target_width == target_height:
            # torchvision's Resize: the longer side is truncated, not rounded.
            longer = int(target_width * max(size) / min(size))
            return (target_width, longer) if width <= height else (longer, target_width)
        # timm's ResizeKeepRatio. Python's round(): halves go to the even number, as there.
        ratios = (width / target_width, height / target_height)
        ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
        return max(round(width / ratio), 1), max(round(height / ratio), 1)


def _center_box(image: Size, crop: Size) -> Box:
    """Return torchvision's centre crop as (left, top, width, height), negative where it pads."""
    left, top = (
        # A larger crop pads the odd pixel at the far end; a smaller one rounds halves to even.
        -((wanted - have) // 2) if wanted > have else round((have - wanted) / 2)
        for have, wanted in zip(image, crop, strict=True)
    )
    return left, top, *crop


def _first_of(
    cfg: Mapping[str, object], keys: tuple[str, ...], default: object
) -> tuple[str, object]:
    for key in keys:
        if cfg.get(key) is not None:
            return f"pretrained_cfg.{key}", cfg[key]
    return f"pretrained_cfg.{keys[-1]}", default


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_side(source: str, key: str, value: object) -> None:
    if type(value) is not int or not 1 <= value <= _LARGEST_SIDE:
        raise ModelError(
            "{source}: {key} must be a whole number from 1 to {largest}, it is {value}",
            source=source,
            key=key,
            largest=_LARGEST_SIDE,
            value=reprlib.repr(value),
        )


def _check_input_size(source: str, key: str, value: object) -> tuple[int, int]:
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(sides) != 3 or sides[0] != 3:
        raise ModelError(
            "{source}: {key} must be [3, height, width] for RGB pictures, it is {value}",
            source=source,
            key=key,
            value=reprlib.repr(value),
        )
    for side in sides[1:]:
        _check_side(source, key, side)
    return sides[1], sides[2]


def _check_crop_pct(source: str, key: str, value: object, height: int, width: int) -> float:
    if isinstance(value, (int, float)) and _is_number(value) and value > 0:
        largest, smallest = max(height, width) / value, min(height, width) / value
        if smallest >= 1 and largest <= _LARGEST_RESIZED_SIDE:
            return float(value)
    raise ModelError(
        "{source}: {key} must be a number like 0.875, the part of the resized side that the "
        "crop keeps, it is {value}",
        source=source,
        key=key,
        value=reprlib.repr(value),
    )


def _check_choice(source: str, key: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ModelError(
            "{source}: {key} must be one of {choices}, it is {value}",
            source=source,
            key=key,
            choices=", ".join(choices),
            value=reprlib.repr(value),
        )
    return value


def _check_triple(source: str, key: str, value: object, *, positive: bool) -> Triple:
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    # Far beyond sense already, and still fine in float32.
    lowest, highest = (1e-6 if positive else -1e6), 1e6
    if len(numbers) == 3 and all(_is_number(n) and lowest <= n <= highest for n in numbers):
        red, green, blue = (float(number) for number in numbers)
        return red, green, blue
    raise ModelError(
        "{source}: {key} must be three numbers from {lowest} to {highest}, it is {value}",
        source=source,
        key=key,
        lowest=lowest,
        highest=highest,
        value=reprlib.repr(value),
    )
