"""Embedded ICC colour profiles → sRGB, the colour space that networks are trained in.

The conversion is LittleCMS', perceptual intent. A profile that is broken, or that describes
another kind of pixels than the picture has, is set aside and the reason reported: a wrong profile
is no reason to refuse a picture. A profile that *is* sRGB, whatever its name, changes nothing.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lushan.record import record

if TYPE_CHECKING:
    from PIL import ImageCms

# Colour space of a profile → the Pillow mode of the pixels that it describes.
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_NAME_LENGTH = 100


@record
class Profile:
    """What an embedded profile says about itself, and whether it can and need be applied."""

    name: str
    mode: str | None  # Pillow mode of the pixels it describes; None: not one that we can convert
    is_srgb: bool
    problem: str | None = None


@lru_cache(maxsize=8)  # the pictures of one camera carry one profile
def read_profile(content: bytes) -> Profile:
    """Return what the ICC profile ``content`` is; never raises, ``problem`` says what is wrong."""
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(BytesIO(content))
        name = _printable(ImageCms.getProfileDescription(profile))
        mode = _PROFILE_MODES.get(profile.profile.xcolor_space.strip())
        is_srgb = mode == "RGB" and _changes_nothing(_transform_to_srgb(content, mode))
    except Exception as error:  # LittleCMS and Pillow raise many kinds on hostile profiles
        return Profile("", None, False, str(error).strip() or type(error).__name__)
    problem = None if mode else "its colour space is not RGB, grey or CMYK"
    return Profile(name, mode, is_srgb, problem)


def convert_to_srgb(image: Image.Image, content: bytes) -> Image.Image:
    """Return ``image`` (mode as ``read_profile(content).mode``) as RGB in sRGB colours.

    Raises whatever LittleCMS raises: the caller decides what becomes of the picture.
    """
    from PIL import ImageCms

    converted = ImageCms.applyTransform(image, _transform_to_srgb(content, image.mode))
    assert converted is not None  # None only for in-place conversion
    return converted


def _transform_to_srgb(content: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(content)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
    )


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether a transform moves no colour of a 17×17×17 lattice by more than rounding."""
    from PIL import ImageCms

    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, 17 * 17, 3)
    converted = ImageCms.applyTransform(Image.fromarray(lattice), transform)
    moved = np.abs(np.asarray(converted, dtype=np.int16) - lattice)
    return int(moved.max()) <= 1


def _printable(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable())[:_NAME_LENGTH].strip()
