"""Augmentation: a picture is shown a little differently in every epoch.

What happens to a picture depends on the run's seed, the epoch and its place in the epoch, never on
the thread that does it. Pictures stay uint8 until the batch is complete; normalising is the
``Preprocessing`` of the model, the same as in recognition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from lushan.image.preprocess import Preprocessing
from lushan.train.checks import check_choice, check_count, check_number, check_pair

Pixels = npt.NDArray[np.uint8]
Crop = Literal["resized", "padded", "none"]
CROPS: tuple[Crop, ...] = ("resized", "padded", "none")
_ATTEMPTS = 10  # at a crop that lies within the picture; all fail for very long pictures only


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are varied.

    ``crop``:

    * "resized": a part of the picture with an area of ``scale`` of the whole and a width of
      ``ratio`` times its height, both drawn (the ratio by its logarithm), brought to the network's
      size (Szegedy et al. 2015, "Going deeper with convolutions");
    * "padded": the picture at the network's size with ``padding`` black pixels around it, of
      which a piece of the network's size is cut out anywhere (He et al. 2015);
    * "none": what recognition would see.

    ``flip`` is the probability of left and right changing places. ``mixup`` is the alpha of a beta
    distribution: each batch is laid over itself in reverse, with a weight drawn from it; 0 is off
    (Zhang et al. 2018). ``interpolation`` is for "resized".
    """

    crop: Crop = "resized"
    scale: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    padding: int = 4
    flip: float = 0.5
    mixup: float = 0.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_choice("augmentation.crop", self.crop, CROPS)
        check_pair("augmentation.scale", self.scale, 1e-4, 1)
        check_pair("augmentation.ratio", self.ratio, 0.01, 100)
        check_count("augmentation.padding", self.padding, 0, 1024)
        check_number("augmentation.flip", self.flip, 0, 1)
        check_number("augmentation.mixup", self.mixup, 0, 100)
        check_choice(
            "augmentation.interpolation", self.interpolation, ("nearest", "bilinear", "bicubic")
        )

    def __call__(
        self, pixels: Pixels, preprocessing: Preprocessing, random: np.random.Generator
    ) -> Pixels:
        """Return one variation of a picture: uint8 [H, W, 3] → [height, width, 3].

        The size is that of ``preprocessing``; so is the way to it, except for "resized".
        """
        flip = random.random() < self.flip
        if self.crop == "resized":
            varied = self._resized(pixels, preprocessing.height, preprocessing.width, random)
        else:
            varied = at_size(pixels, preprocessing)
            if self.crop == "padded":
                varied = self._padded(varied, random)
        return varied[:, ::-1] if flip else varied

    def _resized(
        self, pixels: Pixels, height: int, width: int, random: np.random.Generator
    ) -> Pixels:
        left, top, right, bottom = self._box(pixels.shape[1], pixels.shape[0], random)
        resample = Image.Resampling[self.interpolation.upper()]
        image = Image.fromarray(pixels[top:bottom, left:right])
        return np.asarray(image.resize((width, height), resample))

    def _box(
        self, width: int, height: int, random: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Draw a part of the picture: (left, top, right, bottom) in pixels."""
        low, high = (math.log(ratio) for ratio in self.ratio)
        for _ in range(_ATTEMPTS):
            area, shape, x, y = random.random(4)
            area = (self.scale[0] + (self.scale[1] - self.scale[0]) * area) * width * height
            ratio = math.exp(low + (high - low) * shape)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                return left, top, left + w, top + h
        # The middle, as much of it as the ratio allows.
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def _padded(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Move a picture by up to ``padding`` pixels; black comes in from outside."""
        height, width, _ = pixels.shape
        shifts = random.integers(-self.padding, self.padding, 2, endpoint=True).tolist()
        down, right = (
            min(max(by, -side), side) for by, side in zip(shifts, (height, width), strict=True)
        )
        moved = np.zeros_like(pixels)
        to_y, to_x = slice(max(down, 0), height + down), slice(max(right, 0), width + right)
        from_y, from_x = slice(max(-down, 0), height - down), slice(max(-right, 0), width - right)
        moved[to_y, to_x] = pixels[from_y, from_x]
        return moved


def at_size(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Return what recognition would see of a picture: uint8 [H, W, 3] → [height, width, 3]."""
    if pixels.shape[:2] == (preprocessing.height, preprocessing.width) and (
        preprocessing.crop_pct == 1
    ):
        return pixels
    return np.asarray(preprocessing.crop_image(Image.fromarray(pixels)))


def mix(
    pictures: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    alpha: float,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a batch laid over itself in reverse, pictures and targets with the same weight."""
    weight = np.float32(random.beta(alpha, alpha))
    rest = np.float32(1) - weight
    return weight * pictures + rest * pictures[::-1], weight * targets + rest * targets[::-1]
