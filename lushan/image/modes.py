"""Every kind of pixel that Pillow can hand over → 8-bit RGB.

The input policy says what happens to each: 16-bit grey is divided by 257 (Pillow's own
``convert`` clips it to white instead), transparency is composited on white, an embedded colour
profile is converted to sRGB. Pixels without an agreed white (floating point, 32-bit numbers
beyond 16 bits) are refused rather than scaled by a guess.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lushan.errors import PictureError
from lushan.image.color_profile import convert_to_srgb, read_profile
from lushan.record import record

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_WHITE = 255

# TIFF tags
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


@record
class Converted:
    """An RGB image and what was done to the pixels on the way."""

    image: Image.Image  # mode RGB
    alpha_composited: bool
    color_profile: str | None
    color_converted: bool
    ignored: tuple[str, ...]  # what the file carried and could not be used, with the reason


def bits_per_channel(image: Image.Image) -> int:
    """Return the bits of one channel in the file; call it before the pixels are loaded.

    Loading forgets it: Pillow keeps 8 of the 16 bits of RGB, and spreads 1 to 4 bits of grey.
    """
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and image.mode != "P" and tags.get(_BITS_PER_SAMPLE):
        return int(tags[_BITS_PER_SAMPLE][0])
    if image.mode == "1":
        return 1
    raw = _raw_mode(image)
    if raw.startswith("L;") and raw[2:].isdigit():
        return int(raw[2:])
    if image.mode.startswith("I;16") or raw.partition(";")[2] in ("16B", "16L", "16N"):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the pixels as they lie in the file, or ``""``."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def to_rgb(image: Image.Image, bits: int, source: str) -> Converted:
    """Return the loaded ``image`` as 8-bit RGB: profile applied, transparency laid on white.

    Where there is nothing to do that is ``image`` itself: copying takes as long as decoding.
    ``bits`` is ``bits_per_channel`` of the file. Raises ``PictureError`` for pixels that have
    no agreed white, and what Pillow raises for pixels that it cannot convert.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "I" or image.mode.startswith("I;16"):
        colors, alpha = _grey_from_16_bits(image, bits, source)
    elif image.mode == "F":
        raise PictureError(
            "{source}: floating-point pixels have no agreed white; save it with 8 or 16 bits",
            source=source,
        )
    else:
        colors, alpha = _split_alpha(image, bits)
    rgb, name, converted, ignored = _apply_profile(colors, profile)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, (_WHITE,) * 3), alpha)
    return Converted(rgb, alpha is not None, name, converted, ignored)


def _grey_from_16_bits(
    image: Image.Image, bits: int, source: str
) -> tuple[Image.Image, Image.Image | None]:
    """Return 16-bit grey as 8-bit grey, and as alpha where its transparent value stood."""
    values: NDArray[np.int32] = np.asarray(image).astype(np.int32)  # [H, W]
    white = (1 << bits) - 1 if bits in (10, 12, 14) else 65535
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > white:
        raise PictureError(
            "{source}: its grey values run from {lowest} to {highest}, beyond 0 to {white}; "
            "save it with 8 or 16 bits",
            source=source,
            lowest=lowest,
            highest=highest,
            white=white,
        )
    alpha = None
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(values == key, 0, _WHITE).astype(np.uint8))
    # Rounded to nearest; for 16 bits this is division by 257. 65535 · 255 fits in int32.
    values *= _WHITE
    values += white // 2
    values //= white
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        np.subtract(_WHITE, values, out=values)  # Pillow inverts such TIFFs only up to 8 bits
    return Image.fromarray(values.astype(np.uint8)), alpha


def _split_alpha(image: Image.Image, bits: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours of ``image`` without transparency, and its alpha (L) or None."""
    image = image.convert(_PREMULTIPLIED[image.mode]) if image.mode in _PREMULTIPLIED else image
    if not image.has_transparency_data:
        return image, None
    key = image.info.get("transparency")
    if image.mode in ("1", "L", "RGB"):
        image = image.copy()
        image.info["transparency"] = _transparent_color(image.mode, key, bits)
    transparent = image.convert("RGBA")
    alpha = transparent.getchannel("A")
    if image.mode in ("1", "L", "LA"):  # kept grey, for the sake of a grey profile
        transparent.info.clear()
        return transparent.getchannel("R"), alpha
    return transparent.convert("RGB"), alpha


def _transparent_color(mode: str, key: object, bits: int) -> int | tuple[int, ...]:
    """Return PNG's transparent colour at the scale that the loaded pixels have.

    Pillow passes it on as it stands in the file: with 1 to 4 bits where the pixels were spread
    to 8, or with 16 bits where the pixels keep the upper 8.
    """
    if isinstance(key, tuple):
        return tuple(value >> 8 for value in key) if bits == 16 else key
    if not isinstance(key, int):
        raise ValueError("its transparent colour is not understood")
    if mode == "1":
        return _WHITE if key else 0
    return key * _WHITE // ((1 << bits) - 1) if bits < 8 else key


def _apply_profile(
    colors: Image.Image, content: bytes | None
) -> tuple[Image.Image, str | None, bool, tuple[str, ...]]:
    """Return colours as RGB, the profile's name, whether it was applied, and what was ignored."""
    if not content:
        return _rgb(colors), None, False, ()
    profile = read_profile(content)
    name = profile.name or None
    problem = profile.problem
    if profile.is_srgb and colors.mode != "CMYK":
        return _rgb(colors), name, False, ()
    fitting = _fit(colors, profile.mode)
    if problem is None and fitting is None:
        problem = f"it describes {profile.mode} pixels, the picture has {colors.mode}"
    if problem is None and fitting is not None:
        try:
            return convert_to_srgb(fitting, content), name, True, ()
        except Exception as error:  # a profile must not cost the picture
            problem = str(error).strip() or type(error).__name__
    return _rgb(colors), name, False, (f"colour profile: {problem}",)


def _fit(colors: Image.Image, mode: str | None) -> Image.Image | None:
    """Return the colours in the mode that a profile describes, or None where it does not fit."""
    if mode == "RGB" and colors.mode not in ("CMYK", "LAB"):
        return _rgb(colors)
    if mode == "L" and colors.mode in ("1", "L"):
        return colors.convert("L")
    return colors if mode == "CMYK" == colors.mode else None


def _rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` as RGB, which it may be already: ``convert`` would copy it."""
    return image if image.mode == "RGB" else image.convert("RGB")
